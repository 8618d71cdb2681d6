// Pictures as the browser decodes them, upright by their EXIF orientation, with a small copy for the screen.

import { Mask } from "./mask.js";

const SCREEN = 2048; // pixels of the longer side of the copy
const STRIP = 256; // rows read at once
const TRANSPARENT = ["image/png", "image/webp", "image/gif", "image/avif"];

/** A file that cannot be used; the message says why, in words for the user. */
export class PictureError extends Error {}

/** Decode a file: {file, name, stem, width, height, full, small}, the last two ImageBitmaps. */
export async function openPicture(file) {
  const name = file.name || "The picture";
  const full = await decode(file, name);
  const { width, height } = full;
  const small = await shrink(full, SCREEN);
  return { file, name, stem: name.replace(/\.[^.]*$/, ""), width, height, full, small };
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
  await read(photo.full, mask, (pixels, at) => (pixels[at + 3] === 0 ? 1 : 0));
  return mask.data.includes(1) ? mask : null;
}

/** Decode a mask file, scaled to the photo's size by the nearest pixel; lighter than half is hole. */
export async function openMask(file, { width, height }) {
  const name = file.name || "The mask";
  const mask = new Mask(width, height);
  await read(await decode(file, name), mask, lightness);
  if (!mask.data.includes(1)) throw new PictureError(`${name} has no white, so no hole; white marks the hole.`);
  return mask;
}

function lightness(pixels, at) {
  const grey = 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
  return grey >= 127.5 && pixels[at + 3] > 0 ? 1 : 0;
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
    for (let k = 0; k < width * rows; k++) data[top * width + k] = rule(pixels, 4 * k);
    await new Promise((resume) => setTimeout(resume));
  }
}
