// The page: a photo, its hole, and the ways to fill it. Three modes: "paint" the hole, "view" a variation large,
// "part": paint which part of a variation's hole to redo.

import { Api } from "./api.js";
import { Compare } from "./compare.js";
import { Downloads } from "./downloads.js";
import { Drawing } from "./drawing.js";
import { Extend } from "./extend.js";
import { Gallery } from "./gallery.js";
import { Input } from "./input.js";
import { Intake, saveAs } from "./intake.js";
import { Keys } from "./keys.js";
import { Mask } from "./mask.js";
import { placeMenus } from "./menus.js";
import { Models } from "./models.js";
import { Painting } from "./painting.js";
import { openMasks, openPicture, transparentHole } from "./photo.js";
import { freshPlan, nearPlan, partPlan } from "./plans.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Toast } from "./toast.js";
import { askToken } from "./token.js";
import { Viewing } from "./viewing.js";
import { sentence, tell, words } from "./words.js";
import { Work } from "./work.js";

const $ = (id) => document.getElementById(id);
const NOTHING = {
  paint: "There is no hole yet. Paint one, or take Centre hole from the menu.",
  part: "No part is painted yet. Paint what to redo, or take All of the hole.",
};
const FORGOTTEN = "The server has forgotten this round; fill again with its seed.";
const HELP = {
  paint: "Arrow keys move the brush, with Shift by one pixel. Hold Space to paint, or press Enter to put the pen " +
    "down and again to lift it.",
  view: "Arrow keys go to the previous and the next. Hold C to see the photo as it was. Escape goes back to the hole.",
};

class Page {
  constructor() {
    this.mode = "empty";
    this.work = this.part = this.tile = null; // the photo; a part to redo; the variation that is viewed
    this.api = new Api(askToken);
    this.stage = new Stage($("canvas"));
    this.toast = new Toast();
    this.gallery = new Gallery({
      pick: (tile, event) => this.pick(tile, event), choose: (tile) => this.viewing.choose(tile),
      discard: (tile) => this.viewing.discard(tile), save: (tile) => this.downloads.save(tile),
      file: (round, name) => this.file(round, name), cancel: () => this.drawing.cancel(),
      remove: (round) => this.remove(round),
    });
    this.drawing = new Drawing(this.api, this.gallery, () => this.settle());
    this.settings = new Settings($("draw"), () => this.settle());
    this.models = new Models(this.api, this.settings);
    this.intake = new Intake(this);
    this.extend = new Extend(this, this.stage);
    this.painting = new Painting(this, this.stage);
    this.comparing = new Compare(this, this.stage);
    this.viewing = new Viewing(this);
    this.downloads = new Downloads(this);
    this.session = new Session(this);
    this.input = new Input(this.stage, {
      commit: () => this.painting.commit(), revert: () => this.painting.revert(), extend: this.extend,
      compare: (on) => this.comparing.hold(on), step: (by) => this.viewing.step(by), say: (text) => this.say(text),
      divide: (at) => this.comparing.divide(at),
    });
    this.keys = new Keys(this);
    placeMenus();
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
    on("leave", this.escape);
    on("leave-part", this.escape);
    on("full", this.full);
    on("open-keys", () => $("keys").showModal());
    $("draw").addEventListener("submit", (event) => {
      event.preventDefault();
      this.fill();
    });
    document.addEventListener("fullscreenchange", () => {
      $("full").setAttribute("aria-pressed", String(document.fullscreenElement !== null));
    });
    window.addEventListener("pagehide", () => this.api.forget());
  }

  /** Ask the server what it has. */
  async greet() {
    try {
      const [, samples] = await Promise.all([this.models.ask(), this.api.get("/samples")]);
      this.intake.offer(samples);
    } catch (error) {
      tell($("photo-error"), words(error));
    }
  }

  get model() {
    return this.models.model;
  }

  // Photos

  /** Take a photo file; its transparent part, if any, is the hole. */
  open(file) {
    return this.opening(async () => {
      const photo = await openPicture(file);
      this.models.check(photo);
      const hole = await transparentHole(this.api, photo);
      this.goTo(new Work(photo, hole?.mask, this.work));
      if (hole) this.say(["The photo's transparent part is the hole.", ...hole.notes.map(sentence)].join(" "));
    });
  }

  openSample({ name, photo, mask }) {
    return this.opening(async () => {
      const [photoFile, maskFile] = await Promise.all([this.api.blob(photo), this.api.blob(mask)]);
      const picture = await openPicture(new File([photoFile], photo.split("/").at(-1), { type: photoFile.type }));
      this.goTo(new Work(picture, (await openMasks(this.api, [maskFile], picture)).mask, this.work));
      this.say(`Opened the sample ${name} with its hole.`);
    });
  }

  openSession(file) {
    return this.opening(() => this.session.open(file));
  }

  openMasks(files) {
    if (this.mode !== "paint") this.paint();
    return this.painting.load(files);
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

  /** Work on a photo and its hole. */
  goTo(work) {
    this.work = work;
    this.paint();
    this.painting.resize(0);
    const { width, height } = work.photo;
    document.documentElement.style.setProperty("--aspect", Math.min(3, Math.max(0.4, width / height)));
    if (document.activeElement === document.body || $("welcome").contains(document.activeElement)) {
      this.stage.canvas.focus({ preventScroll: true });
    }
  }

  /** Offer to choose another photo, or go back to the one there is. */
  welcome(on) {
    if (on || !this.work) this.setMode("empty");
    else this.paint();
    tell($("photo-error"));
    $("keep-photo").hidden = !this.work;
    (on ? $("choose-photo") : this.stage.canvas).focus();
  }

  // Modes

  setMode(mode) {
    this.mode = mode;
    this.comparing?.hold(false);
    $("work").dataset.mode = mode;
    for (const element of document.querySelectorAll("[data-modes]")) {
      element.hidden = !element.dataset.modes.split(" ").includes(mode);
    }
    $("welcome").hidden = mode !== "empty";
    this.gallery.mark(mode === "view" || mode === "part" ? this.tile : null);
    for (const id of ["draw-error", "mask-error", "mask-note"]) tell($(id));
    if (mode !== "paint" && this.stage.tool === "extend") this.painting.choose("brush");
    this.comparing.settle();
    this.settle();
  }

  paint() {
    this.part = this.tile = null;
    const { photo, mask } = this.work;
    this.stage.show({ picture: photo, mask });
    this.setMode("paint");
  }

  /** Show a variation large; with Shift, beside the one that is shown. */
  pick(tile, event) {
    if (event.shiftKey && this.mode === "view" && tile !== this.tile) {
      if (!this.comparing.how) this.comparing.turn("side");
      return this.comparing.take(tile);
    }
    this.view(tile);
    if (event.detail === 0) this.stage.canvas.focus({ preventScroll: true });
    this.say(`${tile.name} is shown large. Escape goes back.`);
  }

  view(tile) {
    this.tile = tile;
    this.part = null;
    this.stage.show({ picture: tile.picture, original: tile.round.original });
    this.setMode("view");
    this.gallery.reveal(tile);
  }

  enterPart() {
    const { picture, round } = this.tile;
    this.part = new Work(picture, new Mask(picture.width, picture.height));
    this.stage.show({ picture, mask: this.part.mask, within: round.hole });
    this.setMode("part");
    this.painting.resize(0);
    this.stage.canvas.focus({ preventScroll: true });
    this.say("Paint the part of the hole to redo. Escape goes back.");
  }

  /** Go a step back: from a stroke, a part, a variation, the choice of a photo; or cancel what is being made. */
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

  /** Make the variation that is viewed the photo to work on. */
  use() {
    const { tile } = this;
    return this.opening(async () => {
      const photo = await openPicture(await this.downloads.fetch(tile, "png"));
      this.goTo(new Work({ ...photo, type: tile.round.original.type }, undefined, this.work));
      this.say(`${tile.name} is the photo now. Undo goes back to the photo before.`);
      this.stage.canvas.focus({ preventScroll: true });
    });
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("work").requestFullscreen();
  }

  /** What is painted on. */
  get target() {
    return this.mode === "part" ? this.part : this.mode === "paint" ? this.work : null;
  }

  undo() {
    if (this.mode === "view") this.toast.undo();
    else this.painting.step("undo");
  }

  redo() {
    this.painting.step("redo");
  }

  // Filling

  async fill() {
    if (this.drawing.running) return;
    for (const id of ["draw-error", "mask-error", "photo-error"]) tell($(id));
    const [draw, how] = [this.settings.draw(this.mode === "paint"), this.settings.how()];
    if (!draw || !how) return;
    if (this.target && !this.target.mask.data.includes(1)) return tell($("draw-error"), NOTHING[this.mode]);
    const count = draw.num_samples;
    const plan = {
      paint: () => freshPlan(this.work, count, { ...how, model: this.models.wanted }),
      view: () => nearPlan(this.tile, count, this.settings.amount),
      part: () => partPlan(this.tile, count, this.part.mask),
    }[this.mode]();
    this.downloads.unsaved = true;
    await this.drawing.start({ ...plan, draw, count });
  }

  async file(round, name) {
    round.tell("");
    try {
      saveAs(await this.api.file(round.job, name), `${round.original.stem}_${name}`);
    } catch (error) {
      round.tell(error.status === 404 ? FORGOTTEN : words(error));
    }
  }

  remove(round) {
    if (this.drawing.round === round) this.drawing.cancel();
    if (this.tile?.round === round) this.paint();
    this.toast.show(`${round.title} removed`, this.gallery.remove(round));
    $("gallery-title").focus();
  }

  // Saying

  /** Show the photo it came from while held; on a tile with the focus, there. */
  hold(on, element = null) {
    const tile = element && this.gallery.tiles.find((t) => t.button === element);
    if (tile) tile.compare(on);
    else this.comparing.hold(on);
  }

  say(text) {
    $("live").textContent = text;
  }

  /** Bring buttons and captions in line with what there is. */
  settle() {
    const { target, mode, drawing } = this;
    $("undo").disabled = !target?.canUndo;
    $("redo").disabled = !target?.canRedo;
    $("start").hidden = drawing.running;
    $("cancel").hidden = !drawing.running;
    this.settings.describe();
    $("start").textContent = { view: "More like this", part: "Redo this part" }[mode] ?? "Fill";
    this.viewing?.settle();
    this.stage.canvas.setAttribute("aria-label", this.label());
    $("canvas-help").textContent = HELP[mode] ?? HELP.paint;
  }

  label() {
    if (this.tile) return this.mode === "part" ? `Part to redo of ${this.tile.name}` : this.tile.name;
    return this.work ? `${this.work.photo.name} and its hole` : "No photo";
  }
}

new Page();
