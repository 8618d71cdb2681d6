// The variations of one click: what they are of, their tiles, and what there is to say of them.

import { Tile, regionAround, silhouette, thumbnail } from "./tile.js";
import { plural, sentence, tell } from "./words.js";

export class Round {
  /** A plan is {title, original, hole, box, count, ask}; `first` is the number of its first variation. */
  constructor(plan, first, on) {
    Object.assign(this, plan);
    this.element = document.getElementById("round-template").content.firstElementChild.cloneNode(true);
    this.region = regionAround(plan.original, plan.box);
    this.before = thumbnail(plan.original, this.region);
    this.shape = silhouette(plan.hole, this.region);
    this.empty = thumbnail(plan.original, this.region); // without what was in the hole
    const context = this.empty.getContext("2d");
    context.globalCompositeOperation = "destination-out";
    context.drawImage(this.shape, 0, 0);
    this.job = null; // while the server has it
    this.warnings = [];
    this.tiles = Array.from({ length: plan.count }, (_, k) => new Tile(this, k, plan.count, first + k, on));
    this.element.querySelector(".tiles").append(...this.tiles.map((tile) => tile.element));
    this.element.querySelector("h4").textContent = plan.title;
    this.element.setAttribute("aria-label", plan.title);
    this.button("grid").addEventListener("click", () => on.file(this, "grid.png"));
    this.button("stop").addEventListener("click", () => on.cancel());
    this.button("remove").addEventListener("click", () => on.remove(this));
  }

  button(name) {
    return this.element.querySelector(`.${name}`);
  }

  tell(message) {
    tell(this.element.querySelector(".error"), message);
  }

  /** Say what the server has to say of these results, each thing once. */
  warn(warnings) {
    this.warnings = [...new Set([...this.warnings, ...warnings])];
    tell(this.element.querySelector(".note"), this.warnings.map(sentence).join(" "));
  }

  report(words) {
    this.element.querySelector(".about").textContent = words;
  }

  /** Say how it ended; the grid is the server's, which has it when all is there. */
  close(words, complete) {
    this.report(words);
    this.button("stop").hidden = true;
    this.button("remove").hidden = false;
    this.button("grid").hidden = !complete;
    for (const tile of this.tiles) tile.stop();
  }

  /** The variations that are there and were not discarded. */
  get kept() {
    return this.tiles.filter((tile) => tile.done && !tile.discarded);
  }

  get drawn() {
    return this.tiles.filter((tile) => tile.done).length;
  }

  get summary() {
    return `${this.drawn} of ${plural(this.count, "variation")}`;
  }
}
