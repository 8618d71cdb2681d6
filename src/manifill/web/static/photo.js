// Pictures as the browser decodes them, upright by their EXIF orientation, with a small copy for the screen.

import { Mask } from "./mask.js";

const SCREEN = 2048; // pixels of the longer side of the copy
const STRIP = 256; // rows read at once
const TRANSPARENT = ["image/png", "image/webp", "image/gif", "image/avif"];

/** A file that cannot be used; the message says why, in words for the user. */
export class PictureError extends Error {}

/** Decode a file: {file, name, type, stem, width, height, sides, layers}. A layer is {full, small, x, y, width, height}, the
    first two ImageBitmaps; `sides` is how much larger than the file the photo has been made. */
export async function openPicture(file) {
  const name = file.name || "The picture";
  const full = await decode(file, name);
  const { width, height } = full;
  const small = await shrink(full, SCREEN);
  const sides = { left: 0, top: 0, right: 0, bottom: 0 };
  const layers = [{ full, small, x: 0, y: 0, width, height }];
  return { file, name, type: file.type, stem: name.replace(/\.[^.]*$/, ""), width, height, sides, layers };
}

/** Return a photo with more room at its sides, which is empty. */
export function extended(photo, { left, top, right, bottom }) {
  const { sides } = photo;
  return {
    ...photo, width: photo.width + left + right, height: photo.height + top + bottom,
    sides: { left: sides.left + left, top: sides.top + top, right: sides.right + right, bottom: sides.bottom + bottom },
    layers: photo.layers.map((layer) => ({ ...layer, x: layer.x + left, y: layer.y + top })),
  };
}

/** Return a photo with a bitmap laid over it at a box, [left, top, right, bottom]. */
export function patched(photo, bitmap, [left, top, right, bottom]) {
  const layer = { full: bitmap, small: bitmap, x: left, y: top, width: right - left, height: bottom - top };
  return { ...photo, layers: [...photo.layers, layer] };
}

async function decode(file, name) {
  if (!file.size) throw new PictureError(`${name} is empty; expected a picture.`);
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    const kind = file.type ? ` (${file.type})` : "";
    throw new PictureError(`${name}${kind} is not a picture this browser can show; expected PNG, JPEG, WebP or AVIF.`);
  }
}

async function shrink(bitmap, longest) {
  const ratio = longest / Math.max(bitmap.width, bitmap.height);
  if (ratio >= 1) return bitmap;
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * ratio)));
  return createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "medium" });
}

/** Return the hole that a photo's transparent pixels make, or null where it has none. */
export async function transparentHole(photo) {
  if (!TRANSPARENT.includes(photo.file.type)) return null;
  const mask = new Mask(photo.width, photo.height);
  await read(photo.layers[0].full, mask, (pixels, at) => (pixels[at + 3] === 0 ? 1 : 0));
  return mask.data.includes(1) ? mask : null;
}

/** Decode mask files, each scaled to the photo's size by the nearest pixel; what is lighter than half in one of them is
    hole. Returns {mask, notes}: what is odd about them, in the command line's words. */
export async function openMasks(files, photo) {
  const { width, height } = photo;
  const mask = new Mask(width, height);
  const notes = [];
  for (const file of files) {
    const name = file.name || "mask";
    const bitmap = await decode(file, name);
    const found = { hole: 0, grey: 0 };
    await read(bitmap, mask, (pixels, at, before) => {
      const grey = pixels[at + 3] > 0 ? lightness(pixels, at) : 0;
      if (grey > 15 && grey < 240) found.grey++;
      if (grey >= 127.5) found.hole++;
      return grey >= 127.5 ? 1 : before;
    });
    if (!found.hole) throw new PictureError(`${name}: the mask has no hole, so there is nothing to fill (white marks the hole)`);
    if (found.grey) notes.push(`${name}: the mask has grey values; lighter than half is taken as the hole`);
    const across = Math.abs(bitmap.height * width - bitmap.width * height);
    const size = `${name}: mask of ${bitmap.width}x${bitmap.height} pixels`;
    if (across > Math.floor((Math.max(width, height) * Math.max(bitmap.width, bitmap.height)) / 50)) {
      notes.push(`${size}, another shape than the photo's ${width}x${height}; stretched`);
    }
    const share = found.hole / (width * height);
    if (share > 0.75) {
      const extent = share === 1 ? "everything is hole" : `the hole is ${Math.round(100 * share)}% of the photo`;
      notes.push(`${name}: ${extent}; is the mask inverted? (white marks the hole)`);
    }
  }
  return { mask, notes };
}

function lightness(pixels, at) {
  return 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
}

/** Draw a bitmap at the mask's size, strip by strip so that the page stays awake, and set the mask by a rule. */
async function read(bitmap, mask, rule) {
  const { width, height, data } = mask;
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top, width, height);
    const pixels = context.getImageData(0, 0, width, rows).data;
    for (let k = 0, at = top * width; k < width * rows; k++, at++) data[at] = rule(pixels, 4 * k, data[at]);
    await new Promise((resume) => setTimeout(resume));
  }
}
