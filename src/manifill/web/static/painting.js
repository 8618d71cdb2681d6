// Painting on the hole, or on a part of it: tools, brush size, zoom, edits as steps, masks as files.

import { onFiles, saveAs } from "./intake.js";
import { openMasks } from "./photo.js";
import { maskToPng } from "./png.js";
import { plural, tell, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const STEPS_AN_OCTAVE = 7; // of the brush's size slider, whose largest is half the photo

export class Painting {
  /** `page` has target (the Work that is painted on, or null), goTo(work), say(words) and settle(). */
  constructor(page, stage) {
    Object.assign(this, { page, stage });
    const on = (id, act) => $(id).addEventListener("click", act);
    for (const b of document.querySelectorAll(".tool")) b.addEventListener("click", () => this.choose(b.dataset.tool));
    $("size").addEventListener("input", () => this.resize(0));
    on("undo", () => this.step("undo"));
    on("redo", () => this.step("redo"));
    on("zoom-in", () => this.zoom(1.5));
    on("zoom-out", () => this.zoom(1 / 1.5));
    on("zoom-fit", () => this.zoom(0));
    on("centre", () => this.edit((mask) => mask.centre()));
    on("invert", () => this.edit((mask) => mask.invert()));
    on("clear", () => this.edit((mask) => mask.clear()));
    on("whole-part", () => this.edit((mask) => mask.data.fill(1)));
    on("load-mask", () => $("mask-file").click());
    onFiles($("mask-file"), (files) => this.load(files));
    on("save-mask", () => this.save());
  }

  choose(tool) {
    this.stage.tool = tool;
    for (const b of document.querySelectorAll(".tool")) b.setAttribute("aria-pressed", String(b.dataset.tool === tool));
    this.page.extend.turn(tool === "extend");
    this.stage.redraw();
  }

  /** Change the brush's size by so many steps of its slider. */
  resize(steps) {
    const slider = $("size");
    slider.value = Number(slider.value) + steps;
    const { picture } = this.stage;
    if (!picture) return;
    const largest = Math.max(picture.width, picture.height) / 2;
    const diameter = Math.max(1, Math.round(largest * 2 ** ((slider.value - slider.max) / STEPS_AN_OCTAVE)));
    this.stage.diameter = diameter;
    $("size-text").textContent = `${diameter} px`;
    slider.setAttribute("aria-valuetext", `${plural(diameter, "pixel")} of the photo`);
    this.stage.redraw();
  }

  /** Zoom by a factor; 0 shows all of the photo. */
  zoom(factor) {
    if (factor) this.stage.zoom(factor);
    else this.stage.fit();
  }

  /** Change the hole, or the part, as one step. */
  edit(act) {
    const { mask } = this.page.target;
    act(mask);
    if (this.stage.within) mask.clip(this.stage.within);
    this.commit();
  }

  commit() {
    for (const id of ["draw-error", "mask-error", "mask-note"]) tell($(id));
    if (this.page.target.commit()) this.describe();
    this.refresh();
  }

  revert() {
    this.page.target?.history.revert();
    this.stage.redraw();
  }

  /** Go a step back ("undo") or forward ("redo"). */
  step(direction) {
    const { target } = this.page;
    if (!target || this.stage.stroke) return;
    const next = target[direction]();
    if (next !== target) this.page.goTo(next);
    this.describe();
    this.refresh();
  }

  refresh() {
    this.page.settle();
    this.stage.redraw();
  }

  /** Say how large the hole is now. */
  describe() {
    const { mask } = this.page.target;
    const share = (100 * mask.measure().count) / mask.data.length;
    const words = share > 0 && share < 1 ? "under 1" : share.toFixed(0);
    this.page.say(`${this.stage.within ? "The part" : "The hole"} is ${words} % of the photo.`);
  }

  /** Make the white of mask files the hole, of all of them together. */
  async load(files) {
    tell($("mask-error"));
    try {
      const { mask, notes } = await openMasks(this.page.api, files, this.page.work.photo);
      this.edit((own) => own.data.set(mask.data));
      tell($("mask-note"), notes.join(". "));
    } catch (error) {
      const names = files.map((file) => file.name).join(", ");
      tell($("mask-error"), words(error).replace(/^The mask:/, `${names}:`));
    }
  }

  async save() {
    const { mask, photo } = this.page.target;
    saveAs(await maskToPng(mask), `${photo.stem}_mask.png`);
  }
}
