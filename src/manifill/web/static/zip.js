// Zip archives of files that are compressed already: written and read without compressing, so that any program opens
// them.

import { crc } from "./png.js";

const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
const UTF8 = 0x800;

/** Return an archive of files, [name, Blob]. */
export async function zip(files) {
  const parts = [];
  const list = [];
  let at = 0;
  for (const [name, blob] of files) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const title = new TextEncoder().encode(name);
    const about = [20, UTF8, 0, 0, 0x21, [crc(bytes)], [bytes.length], [bytes.length], title.length, 0];
    parts.push(pack([[LOCAL], ...about]), title, blob);
    list.push(pack([[CENTRAL], 20, ...about, 0, 0, 0, [0], [at]]), title);
    at += 30 + title.length + bytes.length;
  }
  const length = list.reduce((sum, part) => sum + part.length, 0);
  const end = pack([[END], 0, 0, files.length, files.length, [length], [at], 0]);
  return new Blob([...parts, ...list, end], { type: "application/zip" });
}

/** Return numbers as bytes, two each, four where one is in brackets. */
function pack(numbers) {
  return Uint8Array.from(numbers.flatMap((n) => (Array.isArray(n) ? bytesOf(n[0], 4) : bytesOf(n, 2))));
}

function bytesOf(n, count) {
  return Array.from({ length: count }, (_, k) => Math.floor(n / 256 ** k) % 256);
}

/** Return the files of an archive that zip() wrote, Map of Blobs by name; throws where it is something else. */
export async function unzip(archive) {
  const end = await view(archive, archive.size - 22, archive.size);
  if (archive.size < 22 || end.getUint32(0, true) !== END) throw new Error("not an archive, or a damaged one");
  const from = end.getUint32(16, true);
  const list = await view(archive, from, from + end.getUint32(12, true));
  const files = new Map();
  for (let at = 0; at < list.byteLength;) {
    if (list.getUint32(at, true) !== CENTRAL || list.getUint16(at + 10, true) !== 0) throw new Error("another kind of archive");
    const [size, length] = [list.getUint32(at + 24, true), list.getUint16(at + 28, true)];
    const name = new TextDecoder().decode(new Uint8Array(list.buffer, at + 46, length));
    const start = list.getUint32(at + 42, true);
    const local = await view(archive, start, start + 30);
    const data = start + 30 + local.getUint16(26, true) + local.getUint16(28, true);
    files.set(name, archive.slice(data, data + size));
    at += 46 + length + list.getUint16(at + 30, true) + list.getUint16(at + 32, true);
  }
  return files;
}

async function view(blob, from, to) {
  return new DataView(await blob.slice(Math.max(0, from), to).arrayBuffer());
}
