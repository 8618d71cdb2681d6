// How a hole is shown over the photo: teal stripes with a white edge, which no photo has; what is out of reach is dim.

const [LIGHT, DARK, EDGE, DIM] = [0x998c9a0e, 0xbf7a860b, 0xf2ffffff, 0x99141414]; // 0xAABBGGRR
const [NOTHING, HOLE, OUT] = [0, 1, 2];

/** Fill ImageData, whose pixel p shows the photo's (p - view) / scale, with a mask's hole and what is not `within`. */
export function paintOverlay(image, view, { mask, within }, stripe) {
  const { width, height } = image;
  const out = new Uint32Array(image.data.buffer);
  const columns = places(width, view.x, view.scale, mask.width);
  const rows = places(height, view.y, view.scale, mask.height);
  const above = new Uint8Array(width);
  out.fill(0);
  for (let y = 0; y < height; y++) {
    if (rows[y] < 0) {
      above.fill(NOTHING);
      continue;
    }
    paintRow(out.subarray(y * width, (y + 1) * width), y, rows[y] * mask.width, columns, above, mask, within, stripe);
  }
}

function paintRow(out, y, start, columns, above, mask, within, stripe) {
  let left = NOTHING;
  for (let x = 0; x < columns.length; x++) {
    const at = start + columns[x];
    const state = columns[x] < 0 ? NOTHING : within && !within.data[at] ? OUT : mask.data[at];
    if (state !== left || state !== above[x]) out[x] = EDGE;
    else if (state === HOLE) out[x] = (((x + y) / stripe) & 1) === 0 ? LIGHT : DARK;
    else if (state === OUT) out[x] = DIM;
    left = above[x] = state;
  }
}

/** Return for each of `count` pixels of the screen the photo's, -1 outside it. */
function places(count, offset, scale, size) {
  return Int32Array.from({ length: count }, (_, k) => {
    const place = Math.floor((k + 0.5 - offset) / scale);
    return place >= 0 && place < size ? place : -1;
  });
}
