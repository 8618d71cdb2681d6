// One variation in the gallery: an empty place, then its structure, then the picture.

import { patched } from "./photo.js";

const SIDE = 560; // pixels of a tile's longer side
const HOLD = 220; // milliseconds until a press is a hold

export class Tile {
  /** `round` has {region, before, original, ...}; `on` has pick(tile, event), choose(tile), discard(tile) and save(tile). */
  constructor(round, index, of, number, on) {
    Object.assign(this, { round, index, of, number, on });
    this.element = document.getElementById("tile-template").content.firstElementChild.cloneNode(true);
    this.button = this.element.querySelector(".pick");
    this.canvas = this.element.querySelector("canvas");
    this.mark = this.element.querySelector(".mark");
    this.held = false;
    this.chosen = false;
    this.seed = this.picture = null;
    this.place = null; // {job, index} on the server
    this.about = {}; // what the server says of it: log_likelihood, models, ...
    const { width, height } = thumbSize(round.region);
    Object.assign(this.canvas, { width, height });
    this.canvas.getContext("2d").drawImage(round.empty, 0, 0);
    this.element.querySelector(".name").textContent = this.name;
    this.setState("waiting", `${this.name}, not there yet`);
    this.listen();
  }

  get name() {
    return `Variation ${this.number}`;
  }

  get done() {
    return this.element.dataset.state === "done";
  }

  /** What it was asked for by. */
  get ask() {
    return this.round.ask;
  }

  listen() {
    const { button } = this;
    let timer = null;
    const release = () => {
      clearTimeout(timer);
      this.compare(false);
    };
    button.addEventListener("pointerdown", () => {
      this.held = false;
      timer = setTimeout(() => this.compare((this.held = true)), HOLD);
    });
    for (const kind of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(kind, release);
    button.addEventListener("contextmenu", (event) => this.held && event.preventDefault());
    button.addEventListener("click", (event) => {
      if (!this.held || event.detail === 0) this.on.pick(this, event);
      this.held = false;
    });
    for (const [name, label, act] of [
      ["star", `Choose ${this.name}`, "choose"], ["discard", `Discard ${this.name}`, "discard"],
      ["save", `Download ${this.name}`, "save"],
    ]) {
      const small = this.element.querySelector(`.${name}`);
      small.setAttribute("aria-label", label);
      small.title = label.split(" ")[0];
      small.addEventListener("click", () => this.on[act](this));
    }
  }

  setState(state, label, mark = "") {
    this.element.dataset.state = state;
    this.button.disabled = state !== "done";
    this.button.setAttribute("aria-label", label);
    this.mark.textContent = mark;
    this.mark.hidden = !mark;
  }

  choose(on) {
    this.chosen = on;
    this.element.classList.toggle("chosen", on);
    this.element.querySelector(".star").setAttribute("aria-pressed", String(on));
  }

  /** Show in the hole what its structure is, until the picture is there: a square of the photo, which may be turned. */
  async showStructure(file, { box: [left, top, right, bottom], angle }) {
    const bitmap = await createImageBitmap(file);
    if (this.done) return;
    this.setState("structure", `${this.name}, its structure`, "structure");
    const { width, height } = this.canvas;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(this.round.shape, 0, 0);
    context.globalCompositeOperation = "source-in";
    const square = { x: left, y: top, width: right - left, height: bottom - top };
    place(context, bitmap, square, this.round.region, { angle, quality: "low" }); // it is enlarged, and blurred anyway
    this.canvas.getContext("2d").drawImage(context.canvas, 0, 0);
  }

  /** Take what is new of the photo, a PNG of the box that {seed, box, ...} names. */
  async show(patch, { seed, ...about }, place) {
    const bitmap = await createImageBitmap(patch);
    Object.assign(this, { patch, seed, about, place });
    this.picture = patched(this.round.original, bitmap, about.box);
    this.setState("done", `${this.name}. Show it large`);
    this.element.querySelector(".done").hidden = false;
    this.draw();
  }

  draw() {
    const [left, top, right, bottom] = this.about.box;
    const context = this.canvas.getContext("2d");
    context.drawImage(this.round.before, 0, 0);
    const box = { x: left, y: top, width: right - left, height: bottom - top };
    place(context, this.picture.layers.at(-1).full, box, this.round.region);
  }

  /** Say that nothing will come here any more. */
  stop() {
    if (!this.done) this.setState("none", `${this.name}, not there`);
  }

  compare(on) {
    if (!this.done) return;
    if (on) this.canvas.getContext("2d").drawImage(this.round.before, 0, 0);
    else this.draw();
    this.mark.textContent = "original";
    this.mark.hidden = !on;
  }
}

/** Draw a bitmap that shows a part {x, y, width, height} of the photo, turned clockwise by an angle in degrees, where
    `region` of the photo is shown. */
function place(context, bitmap, { x, y, width, height }, region, { angle = 0, quality = "high" } = {}) {
  const scale = context.canvas.width / region.width;
  context.save();
  context.imageSmoothingQuality = quality;
  context.translate((x + width / 2 - region.x) * scale, (y + height / 2 - region.y) * scale);
  context.rotate((angle * Math.PI) / 180);
  context.scale(scale, scale);
  context.drawImage(bitmap, -width / 2, -height / 2, width, height);
  context.restore();
}

/** Return the part of a photo to show small: all of it, or a square around a hole that would be hard to see. */
export function regionAround({ width, height }, hole) {
  const side = 2 * Math.max(hole.right - hole.left, hole.bottom - hole.top);
  if (side > 0.75 * Math.min(width, height)) return { x: 0, y: 0, width, height };
  const start = (low, high, size) => Math.round(Math.min(Math.max((low + high - side) / 2, 0), size - side));
  return { x: start(hole.left, hole.right, width), y: start(hole.top, hole.bottom, height), width: side, height: side };
}

/** Return what is hole in a region, opaque, scaled for a tile. */
export function silhouette(hole, region) {
  const { width, height } = thumbSize(region);
  const image = new ImageData(width, height);
  const scale = region.width / width;
  for (let v = 0, at = 3; v < height; v++) {
    const row = Math.floor(region.y + (v + 0.5) * scale) * hole.width;
    for (let u = 0; u < width; u++, at += 4) image.data[at] = 255 * hole.data[row + Math.floor(region.x + (u + 0.5) * scale)];
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Return a region of a picture, scaled for a tile. */
export function thumbnail({ layers }, region) {
  const { width, height } = thumbSize(region);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const scale = width / region.width;
  context.imageSmoothingQuality = "high";
  for (const { full, small, x, y, ...layer } of layers) {
    const source = scale * layer.width > small.width ? full : small;
    const [left, top] = [(x - region.x) * scale, (y - region.y) * scale];
    context.drawImage(source, left, top, layer.width * scale, layer.height * scale);
  }
  return canvas;
}

function thumbSize({ width, height }) {
  const scale = SIDE / Math.max(width, height);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}
