// One completion in the gallery: an empty place, then its structure, then the picture.

const SIDE = 400; // pixels of a tile's longer side
const HOLD = 220; // milliseconds until a press is a hold

export class Tile {
  /** `round` has {region, before, original, ...}; `on` has pick(tile, byKey), reuse(seed) and save(tile). */
  constructor(round, index, of, on) {
    Object.assign(this, { round, index, of, on });
    this.element = document.getElementById("tile-template").content.firstElementChild.cloneNode(true);
    this.button = this.element.querySelector(".pick");
    this.canvas = this.element.querySelector("canvas");
    this.mark = this.element.querySelector(".mark");
    this.seedButton = this.element.querySelector(".seed");
    this.saveButton = this.element.querySelector(".save");
    this.seed = this.file = this.thumb = this.picture = this.held = null;
    this.place = null; // {job, index} on the server
    const { width, height } = thumbSize(round.region);
    Object.assign(this.canvas, { width, height });
    this.setState("waiting", `Completion ${index + 1} of ${of}, not drawn yet`);
    this.listen();
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
      if (!this.held || event.detail === 0) this.on.pick(this, event.detail === 0);
      this.held = false;
    });
    this.seedButton.addEventListener("click", () => this.on.reuse(this.seed));
    this.saveButton.addEventListener("click", () => this.on.save(this));
  }

  setState(state, label, mark = "") {
    this.element.dataset.state = state;
    this.button.disabled = state !== "done";
    this.button.setAttribute("aria-label", label);
    this.mark.textContent = mark;
    this.mark.hidden = !mark;
  }

  setSeed(seed) {
    this.seed = seed;
    this.seedButton.textContent = `seed ${seed}`;
    this.seedButton.title = "Use this seed for the next drawing";
    this.seedButton.setAttribute("aria-label", `Seed ${seed}: use it for the next drawing`);
    this.saveButton.setAttribute("aria-label", `Download the completion of seed ${seed}`);
    this.saveButton.title = "Download";
    this.seedButton.hidden = false;
  }

  /** Show the structure, a square picture of what the model sees of the photo, until the completion is there. */
  async showStructure(file) {
    const bitmap = await createImageBitmap(file);
    if (this.done) return;
    this.setState("structure", `Completion ${this.index + 1} of ${this.of}, structure drawn`, "structure");
    this.paint(bitmap, this.round.seen ?? this.round.region);
  }

  async showCompletion(file, name, seed, place) {
    this.setSeed(seed);
    this.file = new File([file], name, { type: "image/png" });
    this.place = place;
    this.thumb = await thumbnail(this.file, this.round.region);
    this.setState("done", `Completion ${this.index + 1} of ${this.of}, seed ${seed}. Show it large`);
    this.saveButton.hidden = false;
    this.paint(this.thumb);
  }

  /** Say that nothing will come here any more. */
  stop() {
    if (!this.done) this.setState("none", `Completion ${this.index + 1} of ${this.of}, not drawn`, "not drawn");
  }

  compare(on) {
    if (!this.done) return;
    this.paint(on ? this.round.before : this.thumb);
    this.mark.textContent = "original";
    this.mark.hidden = !on;
  }

  /** Draw a bitmap that shows a part {x, y, width, height} of the photo, the tile's own unless given. */
  paint(bitmap, part = this.round.region) {
    const { x, y, width } = this.round.region;
    const scale = this.canvas.width / width;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
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

/** Decode a region of a picture file, scaled for a tile, without keeping the rest. */
export async function thumbnail(source, region) {
  const { width, height } = thumbSize(region);
  return createImageBitmap(source, region.x, region.y, region.width, region.height,
    { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
}

function thumbSize({ width, height }) {
  const scale = SIDE / Math.max(width, height);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}
