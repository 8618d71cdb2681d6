// The large picture: what is shown, where it lies on the screen, and drawing it. Beside another one, both are shown with
// the same zoom, each in a pane of its own.

import { paintOverlay } from "./overlay.js";
import { Stroke } from "./stroke.js";

const CLOSEST = 32; // CSS pixels a pixel of the photo
const MARGIN = 12; // CSS pixels around a photo that is shown whole
const SHARP = 6; // from so many CSS pixels a pixel on, zoomed in, pixels are shown as squares
const GAP = 3; // CSS pixels on each side of what divides two panes
const ROOM = 1.5; // times the photo's size that is shown where its sides are dragged outward

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
    this.beside = null; // the picture that is compared with, "slider" or "side" says how
    this.how = null;
    this.divider = 0.5; // how much of what is seen of the photo lies left of the slider
    this.sides = null; // what is to be added to the photo's sides, while that is chosen
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

  /** Show another picture beside the one there is, by "slider" or "side"; null ends that. */
  compare(how, picture) {
    const before = this.how;
    Object.assign(this, { how, beside: how && picture });
    if (before === how || (before !== "side" && how !== "side")) return this.redraw();
    if (this.fitted) this.fit();
    else this.place();
  }

  /** How large a pane is and where the second one begins: beside the first or below it, as the picture is larger. */
  get pane() {
    const { canvas: { width, height }, picture } = this;
    if (this.how !== "side" || !picture) return { width, height, x: 0, y: 0 };
    const gap = GAP * this.ratio;
    const beside = { width: Math.floor(width / 2 - gap), height, x: Math.ceil(width / 2 + gap), y: 0 };
    const below = { width, height: Math.floor(height / 2 - gap), x: 0, y: Math.ceil(height / 2 + gap) };
    const scale = (pane) => Math.min(pane.width / picture.width, pane.height / picture.height);
    return scale(below) > scale(beside) ? below : beside;
  }

  /** Leave room around the photo to drag its sides outward, or no longer. */
  extending(on) {
    this.sides = on ? { left: 0, top: 0, right: 0, bottom: 0 } : null;
    this.fit();
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
    const { pane, picture } = this;
    const room = 2 * MARGIN * this.ratio;
    const around = this.sides ? ROOM : 1;
    return Math.min((pane.width - room) / picture.width, (pane.height - room) / picture.height) / around;
  }

  fit() {
    if (!this.picture) return;
    this.view.scale = this.whole;
    this.fitted = true;
    this.place();
  }

  /** Zoom by a factor around a point of the canvas, its middle unless given. */
  zoom(factor, at = { x: this.pane.width / 2, y: this.pane.height / 2 }) {
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

  /** Keep the photo in sight: centred where all of it is shown, else so that the middle of the pane is on it. */
  place() {
    const { pane, picture, view } = this;
    if (!picture) return;
    view.x = held(view.x, picture.width * view.scale, pane.width, this.fitted);
    view.y = held(view.y, picture.height * view.scale, pane.height, this.fitted);
    this.redraw();
  }

  toPhoto({ x, y }) {
    return { x: (x - this.view.x) / this.view.scale, y: (y - this.view.y) / this.view.scale };
  }

  /** Return where on the canvas, or in its pane, an event happened, in pixels of the canvas. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
    const { pane } = this;
    return { x: pane.x && x >= pane.x ? x - pane.x : x, y: pane.y && y >= pane.y ? y - pane.y : y };
  }

  /** What is seen of the photo from left to right, in pixels of the canvas. */
  get span() {
    const { view, picture, canvas } = this;
    const [left, right] = [Math.max(0, view.x), Math.min(canvas.width, view.x + picture.width * view.scale)];
    return { left, width: right - left };
  }

  /** Move the slider to a place on the canvas. */
  divide({ x }) {
    const { left, width } = this.span;
    this.divider = Math.max(0, Math.min(1, (x - left) / width));
    this.redraw();
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
    canvas.parentElement.classList.toggle("stacked", this.pane.y > 0);
    if (!picture) return;
    this.drawPicture(this.comparing && this.original ? this.original : picture);
    if (this.beside && !this.comparing) this.drawBeside();
    if (this.mask) {
      this.drawMask();
      if (this.stroke && !this.stroke.atOnce) this.drawOutline(this.stroke.outline);
      if (!this.sides) this.drawPointer();
    }
    if (this.sides) this.drawSides();
  }

  /** Draw a picture's layers: a photo, and what is new of it. */
  drawPicture({ layers }) {
    const { context, view } = this;
    context.imageSmoothingEnabled = this.fitted || view.scale < SHARP * this.ratio;
    context.imageSmoothingQuality = "high";
    for (const { full, small, x, y, ...layer } of layers) {
      const source = view.scale * layer.width > small.width ? full : small;
      const [left, top] = [view.x + x * view.scale, view.y + y * view.scale];
      context.drawImage(source, left, top, layer.width * view.scale, layer.height * view.scale);
    }
  }

  /** Draw the other picture: left of the slider, or in the second pane. */
  drawBeside() {
    const { context, canvas, pane } = this;
    context.save();
    context.beginPath();
    if (this.how === "slider") {
      const { left, width } = this.span;
      const x = left + this.divider * width;
      context.rect(0, 0, x, canvas.height);
      context.clip();
      context.clearRect(0, 0, x, canvas.height);
      this.drawPicture(this.beside);
      context.restore();
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, canvas.height);
      return this.strokeTwice();
    }
    context.rect(pane.x, pane.y, pane.width, pane.height);
    context.clip();
    context.clearRect(pane.x, pane.y, pane.width, pane.height);
    context.translate(pane.x, pane.y);
    this.drawPicture(this.beside);
    context.restore();
  }

  /** Draw what the photo is to become, with a handle at each side. */
  drawSides() {
    const { view, picture, sides, ratio } = this;
    const [left, top] = [-sides.left, -sides.top];
    const [right, bottom] = [picture.width + sides.right, picture.height + sides.bottom];
    this.drawOutline([{ x: left, y: top }, { x: right, y: top }, { x: right, y: bottom }, { x: left, y: bottom }]);
    const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
    this.context.lineCap = "round";
    for (const [x, y, dx, dy] of [
      [left, middle.y, 0, 1], [right, middle.y, 0, 1], [middle.x, top, 1, 0], [middle.x, bottom, 1, 0],
    ]) {
      const [cx, cy] = [x * view.scale + view.x, y * view.scale + view.y];
      this.context.beginPath();
      this.context.moveTo(cx - 18 * ratio * dx, cy - 18 * ratio * dy);
      this.context.lineTo(cx + 18 * ratio * dx, cy + 18 * ratio * dy);
      this.strokeTwice(3);
    }
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
  strokeTwice(times = 1) {
    for (const [colour, width] of [["#000c", 3.5], ["#fff", 1.5]]) {
      this.context.strokeStyle = colour;
      this.context.lineWidth = times * width * this.ratio;
      this.context.stroke();
    }
  }
}

function held(start, size, room, centred) {
  if (centred) return (room - size) / 2;
  return Math.min(room / 2, Math.max(room / 2 - size, start));
}
