// A photo's EXIF orientation, obeyed by the page itself: browsers obey it in some formats, the server in all of them.

const TAG = 0x0112;
const TRANSFORMS = { // by orientation: what canvas transform puts the stored pixels of w x h upright
  2: (w, h) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w, h) => [0, -1, 1, 0, 0, w],
};

/** Return {orientation, stored}: the file's orientation, and the file as one that has none (null where it is 1). */
export async function storedPixels(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const at = orientationPlace(bytes);
  if (!at) return { orientation: 1, stored: null };
  const view = new DataView(bytes.buffer);
  const orientation = view.getUint16(at.place, at.little);
  if (!(orientation in TRANSFORMS)) return { orientation: 1, stored: null };
  view.setUint16(at.place, 1, at.little);
  if (at.checksum) view.setUint32(at.checksum.to, crc(bytes.subarray(at.checksum.from, at.checksum.to)));
  return { orientation, stored: new Blob([bytes], { type: file.type }) };
}

/** Return a bitmap turned by an orientation. */
export async function turned(bitmap, orientation) {
  const { width: w, height: h } = bitmap;
  const canvas = new OffscreenCanvas(...(orientation > 4 ? [h, w] : [w, h]));
  const context = canvas.getContext("2d");
  context.setTransform(...TRANSFORMS[orientation](w, h));
  context.drawImage(bitmap, 0, 0);
  return canvas.transferToImageBitmap();
}

/** Find the orientation in a JPEG, PNG or WebP: {place, little, checksum}, or null. */
function orientationPlace(bytes) {
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return inJpeg(bytes, text);
  if (text(1, 4) === "PNG") return inChunks(bytes, 8, "eXIf", text, true);
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return inChunks(bytes, 12, "EXIF", text, false);
  return null;
}

function inJpeg(bytes, text) {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
    if (bytes[at + 1] === 0xff) { // a byte of padding
      at++;
      continue;
    }
    const length = (bytes[at + 2] << 8) | bytes[at + 3];
    if (bytes[at + 1] === 0xe1 && text(at + 4, at + 10) === "Exif\0\0") return inTags(bytes, at + 10);
    if (bytes[at + 1] === 0xda) return null; // the pixels begin
    at += 2 + length;
  }
  return null;
}

/** PNG has the length before the name, big-endian, and a checksum; WebP after it, little-endian, to an even place. */
function inChunks(bytes, start, wanted, text, png) {
  const view = new DataView(bytes.buffer);
  for (let at = start; at + 8 <= bytes.length; ) {
    const length = view.getUint32(png ? at : at + 4, !png);
    if (text(png ? at + 4 : at, png ? at + 8 : at + 4) === wanted) {
      const begin = text(at + 8, at + 14) === "Exif\0\0" ? at + 14 : at + 8;
      const found = inTags(bytes, begin);
      const checksum = png && at + 12 + length <= bytes.length ? { from: at + 4, to: at + 8 + length } : null;
      return found && { ...found, checksum };
    }
    at += png ? 12 + length : 8 + length + (length % 2);
  }
  return null;
}

/** Find the orientation among the tags of a TIFF header at a place. */
function inTags(bytes, start) {
  const view = new DataView(bytes.buffer);
  const little = bytes[start] === 0x49;
  const inside = (at, size) => at + size <= bytes.length;
  if (!inside(start, 8)) return null;
  const folder = start + view.getUint32(start + 4, little);
  if (!inside(folder, 2)) return null;
  const count = view.getUint16(folder, little);
  for (let at = folder + 2; at < folder + 2 + 12 * count && inside(at, 12); at += 12) {
    if (view.getUint16(at, little) === TAG) return { place: at + 8, little, checksum: null };
  }
  return null;
}

function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  }
  return (c ^ 0xffffffff) >>> 0;
}
