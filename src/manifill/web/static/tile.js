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

  /** Show the structure, a square picture of what the model sees of the photo, until the picture is there. */
  async showStructure(file) {
    const bitmap = await createImageBitmap(file);
    if (this.done) return;
    this.setState("structure", `${this.name}, its structure`, "structure");
    this.paint(bitmap, this.round.seen, true);
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
    this.paint(this.round.before, this.round.region);
    this.paint(this.picture.layers.at(-1).full, { x: left, y: top, width: right - left, height: bottom - top });
  }

  /** Say that nothing will come here any more. */
  stop() {
    if (!this.done) this.setState("none", `${this.name}, not there`);
  }

  compare(on) {
    if (!this.done) return;
    if (on) this.paint(this.round.before, this.round.region);
    else this.draw();
    this.mark.textContent = "original";
    this.mark.hidden = !on;
  }

  /** Draw a bitmap that shows a part {x, y, width, height} of the photo; `clear` removes all else. */
  paint(bitmap, part, clear = false) {
    const { x, y, width } = this.round.region;
    const scale = this.canvas.width / width;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    if (clear) context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(bitmap, (part.x - x) * scale, (part.y - y) * scale, part.width * scale, part.height * scale);
  }
}

/** Return the square, centred on the photo, that the model sees where it sees all of it. */
export function wholeSquare({ width, height }) {
  const side = Math.max(width, height);
  return { x: (width - side) / 2, y: (height - side) / 2, width: side, height: side };
}

/** Return the square the model sees around a hole, about: its surroundings, inside the photo where they fit. */
export function squareAround({ width, height }, hole) {
  const side = Math.min(2 * Math.max(hole.right - hole.left, hole.bottom - hole.top), Math.max(width, height));
  const start = (low, high, size) =>
    side > size ? (size - side) / 2 : Math.min(Math.max((low + high - side) / 2, 0), size - side);
  return { x: start(hole.left, hole.right, width), y: start(hole.top, hole.bottom, height), width: side, height: side };
}

/** Return the part of a photo to show small: all of it, or the surroundings of a hole that would be hard to see. */
export function regionAround(photo, hole) {
  const { x, y, width } = squareAround(photo, hole);
  const whole = { x: 0, y: 0, width: photo.width, height: photo.height };
  if (width > 0.75 * Math.min(photo.width, photo.height)) return whole;
  return { x: Math.round(x), y: Math.round(y), width, height: width };
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
