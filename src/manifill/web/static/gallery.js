// The gallery: rounds of completions, newest first, each drawn for one click.

import { Tile, regionAround, thumbnail } from "./tile.js";
import { plural, tell } from "./words.js";

const GHOSTS = 12; // empty places shown at most before the first drawing

export class Gallery {
  /** `on` has pick(tile, byKey), reuse(seed), save(tile), file(round, name), cancel() and remove(round). */
  constructor(section, on) {
    this.on = on;
    this.list = section.querySelector("#rounds");
    this.ghosts = section.querySelector("#ghosts");
    this.title = section.querySelector("h2");
    this.rounds = [];
    section.addEventListener("keydown", (event) => this.walk(event));
  }

  /** Show how many completions there will be. */
  expect(count) {
    const places = Array.from({ length: Math.min(count, GHOSTS) }, () => document.createElement("div"));
    this.ghosts.querySelector("#ghost-tiles").replaceChildren(...places);
  }

  async add(plan) {
    const round = new Round(plan, this.on);
    round.before = await thumbnail(plan.original.full, round.region);
    this.rounds.unshift(round);
    this.list.prepend(round.element);
    this.settle();
    return round;
  }

  remove(round) {
    this.rounds = this.rounds.filter((other) => other !== round);
    round.element.remove();
    this.settle();
  }

  settle() {
    this.ghosts.hidden = this.rounds.length > 0;
    this.title.classList.toggle("unseen", this.rounds.length > 0);
  }

  /** Mark the completion that is shown large, if any. */
  mark(tile) {
    for (const { tiles } of this.rounds) {
      for (const other of tiles) {
        other.element.classList.toggle("picked", other === tile);
        if (other === tile) other.button.setAttribute("aria-current", "true");
        else other.button.removeAttribute("aria-current");
      }
    }
  }

  /** Go from one completion to the next with the arrow keys. */
  walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !event.target.classList.contains("pick")) return;
    const ready = [...this.list.querySelectorAll(".pick:enabled")];
    ready[ready.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  }
}

/** The completions of one click: what they are of and their tiles. */
export class Round {
  /** A plan is {title, about, stem, original, hole, box, count, ask}. */
  constructor(plan, on) {
    Object.assign(this, plan);
    this.element = document.getElementById("round-template").content.firstElementChild.cloneNode(true);
    this.heading = this.element.querySelector("h3");
    this.state = this.element.querySelector(".about");
    this.region = regionAround(plan.original, plan.box);
    this.job = null; // while the server has it
    this.tiles = Array.from({ length: plan.count }, (_, k) => new Tile(this, k, plan.count, on));
    this.element.querySelector(".tiles").append(...this.tiles.map((tile) => tile.element));
    this.heading.textContent = plan.title;
    this.report("");
    this.button("grid").addEventListener("click", () => on.file(this, "grid.png"));
    this.button("zip").addEventListener("click", () => on.file(this, "all.zip"));
    this.button("stop").addEventListener("click", () => on.cancel());
    this.button("remove").addEventListener("click", () => on.remove(this));
    this.element.setAttribute("aria-label", `${plan.title}, ${plan.about}`);
    this.button("remove").setAttribute("aria-label", `Remove: ${plan.title}`);
  }

  button(name) {
    return this.element.querySelector(`.${name}`);
  }

  tell(message) {
    tell(this.element.querySelector(".error"), message);
  }

  report(words) {
    this.state.textContent = words ? `${this.about}, ${words}` : this.about;
  }

  /** Say how it ended; grid and zip are the server's, which has them when all is drawn. */
  close(words, complete) {
    this.report(words);
    this.button("stop").hidden = true;
    this.button("remove").hidden = false;
    for (const name of ["grid", "zip"]) this.button(name).hidden = !complete;
    for (const tile of this.tiles) tile.stop();
  }

  get drawn() {
    return this.tiles.filter((tile) => tile.done).length;
  }

  get summary() {
    return `${this.drawn} of ${plural(this.count, "completion")}`;
  }
}
