// Pictures as the browser decodes them, upright by their EXIF orientation, with a small copy for the screen.

import { Mask } from "./mask.js";
import { storedPixels, turned } from "./orientation.js";

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
    const { orientation, stored } = await storedPixels(file); // browsers obey it in some formats, the server in all
    if (orientation === 1) return await createImageBitmap(file, { imageOrientation: "from-image" });
    return await turned(await createImageBitmap(stored), orientation);
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

/** Return the hole that a photo's transparent part makes, {mask, notes}, or null where it has none. */
export async function transparentHole(api, photo) {
  if (!TRANSPARENT.includes(photo.file.type)) return null;
  const clear = new Mask(photo.width, photo.height);
  await read(photo.layers[0].full, clear, (pixels, at) => (pixels[at + 3] === 0 ? 1 : 0));
  return clear.data.includes(1) ? openMasks(api, [undefined], photo) : null;
}

/** Have the server say what is hole in mask files, in one of them at least: one rule for all ways in. Returns {mask,
    notes}: what is odd about them, in the command line's words. A file left out stands for the photo's opacity. */
export async function openMasks(api, files, photo) {
  const mask = new Mask(photo.width, photo.height);
  const notes = [];
  for (const file of files) {
    if (file && !file.size) throw new PictureError(`${file.name || "The mask"} is empty; expected a picture.`);
    const { hole, warnings } = await api.hole(photo.file, file);
    const { left, top, right, bottom } = photo.sides;
    const found = await readMask(hole, photo.width - left - right, photo.height - top - bottom);
    mask.paste(found, left, top);
    notes.push(...warnings.map((text) => text.replace(/^the mask(?=: )/, file?.name || "the mask")));
  }
  return { mask, notes };
}

/** Read a mask that this page or the server has written: white is hole, of the size that it must have. */
export async function readMask(file, width, height) {
  const bitmap = await decode(file, "The mask");
  if (bitmap.width !== width || bitmap.height !== height) {
    throw new PictureError("The photo has other sides for the server than for this browser; save it anew.");
  }
  const mask = new Mask(width, height);
  await read(bitmap, mask, (pixels, at) => (pixels[at] > 127 ? 1 : 0));
  return mask;
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
    for (let k = 0, at = top * width; k < width * rows; k++, at++) data[at] = rule(pixels, 4 * k);
    await new Promise((resume) => setTimeout(resume));
  }
}
