// The page: a photo, its hole, and the ways to fill it. Three modes: "paint" the hole, "view" a completion large,
// "part": paint which part of a completion's hole to draw anew.

import { Api } from "./api.js";
import { Drawing } from "./drawing.js";
import { Gallery } from "./gallery.js";
import { Input } from "./input.js";
import { Intake, saveAs } from "./intake.js";
import { Keys } from "./keys.js";
import { Mask } from "./mask.js";
import { Painting } from "./painting.js";
import { openMask, openPicture, transparentHole } from "./photo.js";
import { freshPlan, nearPlan, partPlan } from "./plans.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { askToken } from "./token.js";
import { plural, tell, words } from "./words.js";
import { Work } from "./work.js";

const $ = (id) => document.getElementById(id);
const WIDE = window.matchMedia("(min-width: 980px)"); // photo and gallery side by side, as in style.css
const NOTHING = {
  paint: "There is no hole yet. Paint one, or choose Centre hole.",
  part: "No part is painted yet. Paint what to draw anew, or choose All of the hole.",
};
const FORGOTTEN = "The server has forgotten this drawing; draw it again with its seed.";
const HELP = {
  paint: "Arrow keys move the brush, with Shift by one pixel. Hold Space to paint, or press Enter to put the pen " +
    "down and again to lift it.",
  view: "Hold C to see the original. Escape goes back to the hole.",
};

class Page {
  constructor() {
    this.mode = "empty";
    this.work = this.part = this.tile = null; // the photo; a part to draw anew; the completion that is viewed
    this.wanted = null; // the completion that was picked last
    this.model = null; // what the server says of it
    this.api = new Api(askToken);
    this.stage = new Stage($("canvas"));
    this.gallery = new Gallery($("gallery"), this);
    this.drawing = new Drawing(this.api, this.gallery, () => this.settle());
    this.settings = new Settings($("draw"), () => this.settle());
    this.intake = new Intake({ open: (file) => this.open(file), openSample: (sample) => this.openSample(sample) });
    this.painting = new Painting(this, this.stage);
    this.input = new Input(this.stage, {
      commit: () => this.painting.commit(), revert: () => this.painting.revert(),
      compare: (on) => this.compare(on), say: (text) => this.say(text),
    });
    this.keys = new Keys(this);
    this.listen();
    this.setMode("empty");
    this.greet();
  }

  listen() {
    const on = (id, act) => $(id).addEventListener("click", () => act.call(this));
    on("other-photo", () => this.welcome(true));
    on("keep-photo", () => this.welcome(false));
    on("use", this.use);
    on("part", this.enterPart);
    on("save", () => this.save(this.tile));
    on("leave", this.escape);
    on("leave-part", this.escape);
    on("open-keys", () => $("keys").showModal());
    this.listenToCompare($("compare"));
    $("draw").addEventListener("submit", (event) => {
      event.preventDefault();
      this.draw();
    });
    window.addEventListener("pagehide", () => this.api.forget());
  }

  /** The original shows while the button is held, by pointer or by key. */
  listenToCompare(button) {
    button.addEventListener("pointerdown", () => this.compare(true));
    for (const kind of ["pointerup", "pointercancel", "pointerleave", "blur"]) {
      button.addEventListener(kind, () => this.compare(false));
    }
    const held = (on) => (event) => {
      if (event.key === " " || event.key === "Enter") this.compare(on);
    };
    button.addEventListener("keydown", held(true));
    button.addEventListener("keyup", held(false));
  }

  /** Ask the server what it has. */
  async greet() {
    $("settings").open = WIDE.matches;
    try {
      const [model, samples] = await Promise.all([this.api.get("/model"), this.api.get("/samples")]);
      $("model").textContent = `Many ways to fill a hole \u00b7 ${model.name}`;
      this.model = model;
      this.settings.adopt(model);
      this.intake.offer(samples);
    } catch (error) {
      tell($("photo-error"), words(error));
    }
  }

  // Photos

  /** Take a photo file; its transparent part, if any, is the hole. */
  async open(file) {
    return this.opening(async () => {
      const photo = await openPicture(file);
      this.checkSize(photo);
      const hole = await transparentHole(photo);
      this.goTo(new Work(photo, hole ?? undefined, this.work));
      if (hole) this.say("The photo's transparent part is the hole.");
    });
  }

  async openSample({ name, photo, mask }) {
    return this.opening(async () => {
      const [photoFile, maskFile] = await Promise.all([this.api.blob(photo), this.api.blob(mask)]);
      const picture = await openPicture(new File([photoFile], photo.split("/").at(-1), { type: photoFile.type }));
      this.goTo(new Work(picture, await openMask(maskFile, picture), this.work));
      this.say(`Opened the sample ${name} with its hole.`);
    });
  }

  async opening(act) {
    tell($("photo-error"));
    $("opening").hidden = false;
    try {
      await act();
    } catch (error) {
      tell($("photo-error"), words(error));
    }
    $("opening").hidden = true;
  }

  checkSize({ name, width, height, file }) {
    const { pixels = Infinity, body_bytes: bytes = Infinity } = this.model?.limits ?? {};
    const mega = (n) => `${(n / 1e6).toFixed(1)} million`;
    if (width * height > pixels) {
      throw new Error(`${name} has ${mega(width * height)} pixels; this server takes up to ${mega(pixels)}.`);
    }
    if (file.size > bytes) {
      throw new Error(`${name} has ${mega(file.size)} bytes; this server takes up to ${mega(bytes)}.`);
    }
  }

  /** Work on a photo and its hole. */
  goTo(work) {
    this.work = work;
    this.paint();
    this.painting.resize(0);
    if (document.activeElement === document.body || $("welcome").contains(document.activeElement)) {
      this.stage.canvas.focus({ preventScroll: true });
    }
  }

  /** Offer to choose another photo, or go back to the one there is. */
  welcome(on) {
    this.setMode(on ? "empty" : "paint");
    tell($("photo-error"));
    $("keep-photo").hidden = !this.work;
    (on ? $("choose-photo") : this.stage.canvas).focus();
  }

  // Modes

  setMode(mode) {
    this.mode = mode;
    this.compare(false);
    $("work").dataset.mode = mode;
    for (const element of document.querySelectorAll("[data-modes]")) {
      element.hidden = !element.dataset.modes.split(" ").includes(mode);
    }
    $("welcome").hidden = mode !== "empty";
    this.gallery.mark(mode === "view" || mode === "part" ? this.tile : null);
    for (const id of ["draw-error", "mask-error"]) tell($(id));
    this.settle();
  }

  paint() {
    this.part = this.tile = null;
    const { photo, mask } = this.work;
    this.stage.show({ picture: photo, mask });
    this.setMode("paint");
  }

  /** Show a completion large. */
  async pick(tile, byKey) {
    this.wanted = tile;
    try {
      tile.picture ??= await openPicture(tile.file);
    } catch (error) {
      return tile.round.tell(words(error));
    }
    if (this.wanted !== tile) return; // another was picked while this one was decoded
    this.view(tile);
    if (!WIDE.matches) $("work").scrollIntoView();
    if (byKey) $("compare").focus({ preventScroll: true });
    this.say(`Seed ${tile.seed} is shown large. Escape goes back.`);
  }

  view(tile) {
    if (this.tile && this.tile !== tile) this.tile.picture = null; // large, and quickly decoded again
    this.tile = tile;
    this.part = null;
    this.stage.show({ picture: tile.picture, original: tile.round.original });
    this.setMode("view");
  }

  enterPart() {
    const { picture, round } = this.tile;
    this.part = new Work(picture, new Mask(picture.width, picture.height));
    this.stage.show({ picture, mask: this.part.mask, within: round.hole });
    this.setMode("part");
    this.painting.resize(0);
    this.stage.canvas.focus({ preventScroll: true });
    this.say("Paint the part of the hole to draw anew. Escape goes back.");
  }

  /** Go a step back: from a stroke, a part, a completion, the choice of a photo; or cancel the drawing. */
  escape() {
    if (this.input.giveUp()) return;
    if (this.mode === "part") {
      this.view(this.tile);
      $("part").focus({ preventScroll: true });
    } else if (this.mode === "view") {
      const { button } = this.tile;
      this.paint();
      button.focus({ preventScroll: true });
    } else if (this.mode === "empty" && this.work) this.welcome(false);
    else this.drawing.cancel();
  }

  /** Make the completion that is viewed the photo to work on. */
  use() {
    const { picture, seed } = this.tile;
    this.goTo(new Work(picture, undefined, this.work));
    this.say(`Seed ${seed} is the new input. Undo goes back to the photo before.`);
    this.stage.canvas.focus({ preventScroll: true });
  }

  /** What is painted on. */
  get target() {
    return this.mode === "part" ? this.part : this.mode === "paint" ? this.work : null;
  }

  // Drawing

  async draw() {
    if (this.drawing.running) return;
    tell($("draw-error"));
    const [draw, how] = [this.settings.draw(this.mode === "paint"), this.settings.how()];
    if (!draw || !how) return;
    if (this.target && !this.target.mask.data.includes(1)) return tell($("draw-error"), NOTHING[this.mode]);
    const plan = {
      paint: () => freshPlan(this.api, this.work, draw.num_samples, how, this.model?.image_size ?? 0),
      view: () => nearPlan(this.api, this.tile, draw.num_samples, this.settings.amount),
      part: () => partPlan(this.api, this.tile, draw.num_samples, this.part.mask),
    }[this.mode]();
    if (!WIDE.matches) $("gallery").scrollIntoView();
    await this.drawing.start({ ...plan, draw, count: draw.num_samples });
  }

  reuse(seed) {
    this.settings.reuse(seed);
    this.say(`Seed ${seed} is used for the next drawing.`);
  }

  save({ file }) {
    saveAs(file, file.name);
  }

  async file(round, name) {
    round.tell("");
    try {
      saveAs(await this.api.file(round.job, name), `${round.stem}_${name}`);
    } catch (error) {
      round.tell(error.status === 404 ? FORGOTTEN : words(error));
    }
  }

  cancel() {
    this.drawing.cancel();
  }

  remove(round) {
    if (this.drawing.round === round) this.drawing.cancel();
    if (this.tile?.round === round) this.paint();
    if (round.job) this.api.forget(round.job);
    this.gallery.remove(round);
    $("gallery-title").focus();
  }

  // Saying

  /** Show the photo it came from while held; on a tile with the focus, there. */
  compare(on, element = null) {
    const tile = element && this.gallery.rounds.flatMap((r) => r.tiles).find((t) => t.button === element);
    if (tile) return tile.compare(on);
    const can = on && this.mode === "view";
    this.stage.comparing = can;
    $("compare").setAttribute("aria-pressed", String(can));
    $("badge").hidden = !can;
    this.stage.redraw();
  }

  say(text) {
    $("live").textContent = text;
  }

  /** Bring buttons and captions in line with what there is. */
  settle() {
    const { target, mode, drawing, settings } = this;
    $("undo").disabled = !target?.canUndo;
    $("redo").disabled = !target?.canRedo;
    $("start").hidden = drawing.running;
    $("cancel").hidden = !drawing.running;
    settings.describe();
    $("start").textContent = {
      view: `Draw ${settings.count} more like it`, part: `Re-draw it ${plural(settings.count, "time")}`,
    }[mode] ?? `Draw ${plural(settings.count, "completion")}`;
    this.gallery.expect(settings.count);
    $("caption").textContent = this.caption();
    this.stage.canvas.setAttribute("aria-label", this.label());
    $("canvas-help").textContent = HELP[mode] ?? HELP.paint;
  }

  caption() {
    if (this.mode === "view") return `Seed ${this.tile.seed}, ${this.tile.index + 1} of ${this.tile.of}`;
    return this.mode === "part" ? `Paint what to draw anew of seed ${this.tile.seed}` : "";
  }

  label() {
    const which = this.mode === "part" ? "Part to draw anew of the" : "The";
    if (this.tile) return `${which} completion of seed ${this.tile.seed}`;
    return this.work ? `${this.work.photo.name} and its hole` : "No photo";
  }
}

new Page();
