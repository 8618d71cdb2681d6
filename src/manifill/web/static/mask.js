// A hole: one byte a pixel of the photo, 1 where it is to be filled. Drawn exactly, without soft edges.

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
  }

  /** Set the pixels of a row whose centres lie between x0 and x1. */
  span(row, x0, x1, value) {
    if (row < 0 || row >= this.height) return;
    const from = Math.max(0, Math.ceil(x0 - 0.5));
    const to = Math.min(this.width, Math.floor(x1 + 0.5));
    if (from < to) this.data.fill(value, row * this.width + from, row * this.width + to);
  }

  /** Set a disc, and the pixel under its centre however small it is. */
  disc({ x, y }, radius, value) {
    this.span(Math.floor(y), Math.floor(x), Math.floor(x) + 1, value);
    for (let row = Math.floor(y - radius); row <= y + radius; row++) {
      const square = radius ** 2 - (row + 0.5 - y) ** 2;
      if (square >= 0) this.span(row, x - Math.sqrt(square), x + Math.sqrt(square), value);
    }
  }

  /** Set what a disc covers on its way from one point to another. */
  line(from, to, radius, value) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(0.5, radius / 4)));
    for (let k = 0; k <= steps; k++) {
      const t = k / steps;
      this.disc({ x: from.x + t * (to.x - from.x), y: from.y + t * (to.y - from.y) }, radius, value);
    }
  }

  /** Set the rectangle between two corners, rounded to whole pixels, at least one. */
  rectangle(a, b, value) {
    const [left, right] = [Math.round(Math.min(a.x, b.x)), Math.round(Math.max(a.x, b.x))];
    const [top, bottom] = [Math.round(Math.min(a.y, b.y)), Math.round(Math.max(a.y, b.y))];
    for (let row = top; row < Math.max(bottom, top + 1); row++) {
      this.span(row, left, Math.max(right, left + 1), value);
    }
  }

  /** Set the inside of a closed line of points, by the even-odd rule. */
  polygon(points, value) {
    const ys = points.map((p) => p.y);
    const [top, bottom] = [ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))];
    for (let row = Math.max(0, Math.floor(top)); row < Math.min(this.height, bottom); row++) {
      const xs = crossings(points, row + 0.5);
      for (let k = 0; k + 1 < xs.length; k += 2) this.span(row, xs[k], xs[k + 1], value);
    }
  }

  /** Set what is set in a smaller mask that lies at a place. */
  paste(other, left, top) {
    for (let y = 0; y < other.height; y++) {
      for (let x = 0; x < other.width; x++) {
        if (other.data[y * other.width + x]) this.data[(top + y) * this.width + left + x] = 1;
      }
    }
  }

  copy() {
    return Object.assign(new Mask(0, 0), { width: this.width, height: this.height, data: this.data.slice() });
  }

  /** Put another mask in at a place. */
  place({ width, height, data }, left, top) {
    for (let y = 0; y < height; y++) {
      this.data.set(data.subarray(y * width, (y + 1) * width), (top + y) * this.width + left);
    }
  }

  clear() {
    this.data.fill(0);
  }

  invert() {
    for (let k = 0; k < this.data.length; k++) this.data[k] ^= 1;
  }

  /** Set the middle half of the width and of the height. */
  centre() {
    const [w, h] = [this.width, this.height];
    this.clear();
    this.rectangle({ x: w / 4, y: h / 4 }, { x: (3 * w) / 4, y: (3 * h) / 4 }, 1);
  }

  /** Keep only what also lies in another mask of the same size. */
  clip(within) {
    for (let k = 0; k < this.data.length; k++) this.data[k] &= within.data[k];
  }

  /** Count the pixels and find the box around them: {count, left, top, right, bottom}, the last two exclusive. */
  measure() {
    const box = { count: 0, left: this.width, top: this.height, right: 0, bottom: 0 };
    for (const [y, from, to] of this.rows()) {
      for (let x = from; x < to; x++) box.count += this.data[y * this.width + x];
      box.left = Math.min(box.left, from);
      box.right = Math.max(box.right, to);
      box.top = Math.min(box.top, y);
      box.bottom = y + 1;
    }
    return box;
  }

  /** Yield the rows with pixels that are set, [row, first, behind the last]: most of a large mask is none. */
  *rows() {
    for (let y = 0; y < this.height; y++) {
      const row = this.data.subarray(y * this.width, (y + 1) * this.width);
      const from = row.indexOf(1);
      if (from >= 0) yield [y, from, row.lastIndexOf(1) + 1];
    }
  }
}

function crossings(points, y) {
  const xs = [];
  for (let k = 0; k < points.length; k++) {
    const [a, b] = [points[k], points[(k + 1) % points.length]];
    if (a.y <= y !== b.y <= y) xs.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
  }
  return xs.sort((a, b) => a - b);
}
