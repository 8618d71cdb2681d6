// The large picture: what is shown, where it lies on the screen, and drawing it.

import { paintOverlay } from "./overlay.js";
import { Stroke } from "./stroke.js";

const CLOSEST = 32; // CSS pixels a pixel of the photo
const MARGIN = 12; // CSS pixels around a photo that is shown whole
const SHARP = 6; // from so many CSS pixels a pixel on, pixels are shown as squares

export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.layer = new OffscreenCanvas(1, 1);
    this.picture = this.original = this.mask = this.within = null;
    this.tool = "brush";
    this.diameter = 20; // of the brush, in pixels of the photo
    this.stroke = null;
    this.hover = null; // the mouse, in pixels of the canvas
    this.cursor = null; // the keyboard's, in pixels of the photo
    this.comparing = this.waiting = false;
    this.view = { scale: 1, x: 0, y: 0 }; // a photo's point p is at p * scale + (x, y)
    this.fitted = true;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  get ratio() {
    return Math.min(2, window.devicePixelRatio);
  }

  /** Show a picture and what to compare it with; with a mask it can be drawn on, everywhere or `within` another. */
  show({ picture, original = null, mask = null, within = null }) {
    const same = this.picture?.width === picture.width && this.picture?.height === picture.height;
    Object.assign(this, { picture, original, mask, within, stroke: null, comparing: false });
    if (!same) {
      this.cursor = null;
      this.fit();
    }
    this.redraw();
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    if (this.fitted) this.fit();
    else this.place();
    this.draw();
  }

  get whole() {
    const { canvas, picture } = this;
    const room = 2 * MARGIN * this.ratio;
    return Math.min((canvas.width - room) / picture.width, (canvas.height - room) / picture.height);
  }

  fit() {
    if (!this.picture) return;
    this.view.scale = this.whole;
    this.fitted = true;
    this.place();
  }

  /** Zoom by a factor around a point of the canvas, its middle unless given. */
  zoom(factor, at = { x: this.canvas.width / 2, y: this.canvas.height / 2 }) {
    if (!this.picture) return;
    const before = this.toPhoto(at);
    const scale = this.view.scale * factor;
    this.view.scale = Math.min(Math.max(scale, this.whole), Math.max(CLOSEST * this.ratio, this.whole));
    this.fitted = this.view.scale === this.whole;
    this.view.x = at.x - before.x * this.view.scale;
    this.view.y = at.y - before.y * this.view.scale;
    this.place();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.place();
  }

  /** Keep the photo in sight: centred where it is smaller than the canvas, without gaps where it is larger. */
  place() {
    const { canvas, picture, view } = this;
    if (!picture) return;
    view.x = held(view.x, picture.width * view.scale, canvas.width);
    view.y = held(view.y, picture.height * view.scale, canvas.height);
    this.redraw();
  }

  toPhoto({ x, y }) {
    return { x: (x - this.view.x) / this.view.scale, y: (y - this.view.y) / this.view.scale };
  }

  /** Return where on the canvas an event happened, in its pixels. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.ratio, y: (event.clientY - box.top) * this.ratio };
  }

  begin(point, subtract) {
    this.stroke = new Stroke(this.tool, this.mask, this.diameter, subtract);
    this.extend(point);
  }

  extend(point) {
    this.stroke.add(point);
    this.redraw();
  }

  /** Finish the stroke; the caller commits it. */
  end() {
    this.stroke.finish();
    if (this.within) this.mask.clip(this.within);
    this.stroke = null;
    this.redraw();
  }

  /** Draw before the screen is next refreshed. */
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.waiting = false;
    const { canvas, context, picture } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!picture) return;
    this.drawPicture(this.comparing && this.original ? this.original : picture);
    if (this.mask) {
      this.drawMask();
      if (this.stroke && !this.stroke.atOnce) this.drawOutline(this.stroke.outline);
      this.drawPointer();
    }
  }

  drawPicture({ full, small, width, height }) {
    const { context, view } = this;
    context.imageSmoothingEnabled = view.scale < SHARP * this.ratio;
    context.imageSmoothingQuality = "high";
    const source = view.scale * width > small.width ? full : small;
    context.drawImage(source, view.x, view.y, width * view.scale, height * view.scale);
  }

  drawMask() {
    const { width, height } = this.canvas;
    if (this.layer.width !== width || this.layer.height !== height) {
      this.layer = new OffscreenCanvas(width, height);
      this.image = new ImageData(width, height);
    }
    paintOverlay(this.image, this.view, this, 5 * this.ratio);
    this.layer.getContext("2d").putImageData(this.image, 0, 0);
    this.context.drawImage(this.layer, 0, 0);
  }

  drawOutline(points) {
    const { context, view } = this;
    context.beginPath();
    for (const p of points) context.lineTo(p.x * view.scale + view.x, p.y * view.scale + view.y);
    context.closePath();
    this.strokeTwice();
  }

  /** Show the brush's size under the mouse, and the keyboard's cursor with a cross. */
  drawPointer() {
    const { context, view, cursor, hover, ratio } = this;
    const at = cursor ? { x: cursor.x * view.scale + view.x, y: cursor.y * view.scale + view.y } : hover;
    if (!at) return;
    const round = this.tool === "brush" || this.tool === "eraser";
    if (!round && !cursor) return;
    const radius = round ? Math.max(2, (this.diameter / 2) * view.scale) : 0;
    context.beginPath();
    context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
    if (cursor) {
      for (const [dx, dy] of [[1, 0], [0, 1]]) {
        context.moveTo(at.x - 9 * ratio * dx, at.y - 9 * ratio * dy);
        context.lineTo(at.x + 9 * ratio * dx, at.y + 9 * ratio * dy);
      }
    }
    this.strokeTwice();
  }

  /** Stroke the path black, then white, so that it is seen on any photo. */
  strokeTwice() {
    for (const [colour, width] of [["#000c", 3.5], ["#fff", 1.5]]) {
      this.context.strokeStyle = colour;
      this.context.lineWidth = width * this.ratio;
      this.context.stroke();
    }
  }
}

function held(start, size, room) {
  if (size <= room) return (room - size) / 2;
  return Math.min(0, Math.max(room - size, start));
}
