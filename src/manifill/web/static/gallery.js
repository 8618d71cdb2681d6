// The gallery: rounds of variations, newest first, each of one click, under the photo they were made of.

import { Round } from "./round.js";
import { plural } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Gallery {
  /** `on` has pick(tile, event), choose(tile), discard(tile), save(tile), file(round, name), cancel() and remove(round). */
  constructor(on) {
    this.on = on;
    this.element = $("gallery");
    this.photos = []; // {photo, element, list, fold}, newest first
    this.rounds = []; // newest first, those removed left out
    this.count = 0; // variations numbered so far
    this.element.addEventListener("keydown", (event) => this.walk(event));
    $("only-chosen").addEventListener("click", () => this.showOnlyChosen(!this.element.classList.contains("chosen-only")));
  }

  /** Show a round of what a plan asks for. */
  add(plan) {
    const round = new Round(plan, this.count + 1, this.on);
    this.count += plan.count;
    const group = this.groupOf(plan.original);
    for (const other of this.photos) this.fold(other, other !== group);
    group.list.prepend(round.element);
    this.rounds.unshift(round);
    this.showOnlyChosen(false);
    this.settle();
    return round;
  }

  groupOf(photo) {
    const known = this.photos.find((group) => group.photo === photo);
    if (known) return known;
    const element = $("photo-template").content.firstElementChild.cloneNode(true);
    const group = { photo, element, list: element.querySelector(".list"), button: element.querySelector(".fold") };
    group.button.addEventListener("click", () => this.fold(group, !group.list.hidden));
    this.photos.unshift(group);
    $("rounds").prepend(element);
    return group;
  }

  fold(group, on) {
    group.list.hidden = on;
    group.button.setAttribute("aria-expanded", String(!on));
  }

  /** Take a round out; returns what puts it back. */
  remove(round) {
    const at = this.rounds.indexOf(round);
    this.rounds.splice(at, 1);
    round.element.hidden = true;
    this.settle();
    return () => {
      this.rounds.splice(at, 0, round);
      round.element.hidden = false;
      this.settle();
    };
  }

  /** Take a variation out; returns what puts it back. */
  discard(tile) {
    tile.discarded = tile.element.hidden = true;
    this.settle();
    return () => {
      tile.discarded = tile.element.hidden = false;
      this.settle();
    };
  }

  /** All variations that are there, in the order in which they are shown. */
  get tiles() {
    return this.photos.flatMap(({ photo }) => this.rounds.filter((round) => round.original === photo))
      .flatMap((round) => round.kept);
  }

  /** Those that were chosen, or all where none was. */
  get chosen() {
    const { tiles } = this;
    const chosen = tiles.filter((tile) => tile.chosen);
    return chosen.length ? chosen : tiles;
  }

  showOnlyChosen(on) {
    this.element.classList.toggle("chosen-only", on);
    $("only-chosen").setAttribute("aria-pressed", String(on));
  }

  settle() {
    const chosen = this.tiles.filter((tile) => tile.chosen).length;
    this.element.hidden = this.rounds.length === 0;
    document.querySelector("main").classList.toggle("filled", this.rounds.length > 0);
    $("only-chosen").hidden = !chosen;
    if (!chosen) this.showOnlyChosen(false);
    $("download").textContent = chosen ? `Download ${chosen} chosen` : "Download all";
    $("download").disabled = this.tiles.length === 0;
    for (const group of this.photos) {
      const rounds = this.rounds.filter((round) => round.original === group.photo);
      const count = rounds.reduce((sum, round) => sum + round.kept.length, 0);
      group.element.hidden = rounds.length === 0;
      group.button.textContent = `${group.photo.name}, ${plural(count, "variation")}`;
    }
    const shown = this.photos.filter((group) => !group.element.hidden).length;
    $("rounds").classList.toggle("several", shown > 1);
  }

  /** Mark the variation that is shown large and the one it is compared with, if any. */
  mark(tile, against = null) {
    for (const other of this.rounds.flatMap((round) => round.tiles)) {
      other.element.classList.toggle("picked", other === tile);
      other.element.classList.toggle("against", other === against);
      if (other === tile) other.button.setAttribute("aria-current", "true");
      else other.button.removeAttribute("aria-current");
    }
  }

  /** Bring a variation into sight. */
  reveal(tile) {
    this.fold(this.groupOf(tile.round.original), false);
    tile.element.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Go from tile to tile with the arrow keys; while one is shown large, they show the next. */
  walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || this.element.querySelector(".picked") || !event.target.classList.contains("pick")) return;
    const ready = [...this.element.querySelectorAll(".pick:enabled")].filter((button) => button.offsetParent);
    ready[ready.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  }
}
