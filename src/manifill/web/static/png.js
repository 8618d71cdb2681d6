// Masks as PNG files, one bit a pixel, white where the hole is. Written byte by byte: a canvas may change what it is given
// (colour management, protection against fingerprinting) and takes four bytes a pixel.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** Return a mask as a PNG Blob of its own size. */
export async function maskToPng(mask) {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, mask.width);
  header.setUint32(4, mask.height);
  header.setUint8(8, 1); // bits a pixel; the rest stays 0: grey, deflate, no filter, not interlaced
  const parts = [
    new Uint8Array(SIGNATURE),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", await deflate(rows(mask))),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}

/** Return the rows of a mask, eight pixels a byte, the first one highest, each row behind a byte that says "no filter". */
function rows(mask) {
  const { width, height, data } = mask;
  const stride = 1 + Math.ceil(width / 8);
  const bytes = new Uint8Array(stride * height);
  for (const [y, from, to] of mask.rows()) {
    for (let x = from; x < to; x++) bytes[y * stride + 1 + (x >> 3)] |= data[y * width + x] << (7 - (x & 7));
  }
  return bytes;
}

async function deflate(bytes) {
  const { readable, writable } = new CompressionStream("deflate");
  const writer = writable.getWriter();
  writer.write(bytes);
  writer.close();
  return new Uint8Array(await new Response(readable).arrayBuffer());
}

function chunk(name, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

/** Return the checksum of bytes that PNG and zip have. */
export function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
