// A variation shown large: the one before and the next, choosing, discarding, what is known of it.

import { plural } from "./words.js";

const $ = (id) => document.getElementById(id);
const PER_CODE = "mean over the hole's codes, in nats";

export class Viewing {
  /** `page` has tile, mode, gallery, toast, settings, view(tile), paint(), settle() and say(words). */
  constructor(page) {
    this.page = page;
    const on = (id, act) => $(id).addEventListener("click", act);
    on("previous", () => this.step(-1));
    on("next", () => this.step(1));
    on("star", () => this.choose(page.tile));
    on("discard", () => this.discard(page.tile));
    $("details").addEventListener("beforetoggle", ({ newState }) => newState === "open" && this.describe(page.tile));
  }

  /** Go to the variation before or to the next. */
  step(by) {
    const { page } = this;
    const { tiles } = page.gallery;
    const next = tiles[tiles.indexOf(page.tile) + by];
    if (!next) return;
    if (document.activeElement === page.tile.button) next.button.focus({ preventScroll: true });
    page.view(next);
    page.say(`${next.name}, ${this.position(next)}`);
  }

  /** "2 of 8": the place among those of its round. */
  position(tile) {
    const { kept } = tile.round;
    return `${kept.indexOf(tile) + 1} of ${kept.length}`;
  }

  choose(tile) {
    tile.choose(!tile.chosen);
    this.page.gallery.settle();
    this.page.settle();
    this.page.say(`${tile.name} ${tile.chosen ? "is chosen" : "is not chosen any more"}`);
  }

  /** Take a variation out and go on to the one that follows it; a line offers to undo it. */
  discard(tile) {
    const { page } = this;
    const { tiles } = page.gallery;
    const at = tiles.indexOf(tile);
    const back = page.gallery.discard(tile);
    const next = tiles[at + 1] ?? tiles[at - 1];
    if (page.tile === tile) {
      if (next) page.view(next);
      else page.paint();
    } else next?.button.focus({ preventScroll: true });
    page.settle();
    page.toast.show(`${tile.name} discarded`, () => {
      back();
      page.settle();
      page.say(`${tile.name} is back`);
    });
  }

  settle() {
    const { page } = this;
    const { tile, mode } = page;
    if (!tile) return;
    const { tiles } = page.gallery;
    const at = tiles.indexOf(tile);
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at === tiles.length - 1;
    $("star").setAttribute("aria-pressed", String(tile.chosen));
    const part = mode === "part" ? `Redo a part of ${tile.name}` : `${tile.name}, ${this.position(tile)}`;
    $("caption").querySelector("span").textContent = part;
  }

  /** List what is known of a variation. */
  describe(tile) {
    const { about, seed, round } = tile;
    const rows = [["Seed", String(seed)]];
    if (about.log_likelihood !== undefined) rows.push(["Likelihood", `${about.log_likelihood.toFixed(2)} (${PER_CODE})`]);
    if (about.coherence != null) rows.push(["Read the other way", `${about.coherence.toFixed(2)} (${PER_CODE})`]);
    const { temperature } = round.ask.how ?? {};
    rows.push(["Temperature", temperature ?? `the model's own, ${this.page.settings.temperatureOfModel}`]);
    const models = about.models ?? [{ model: this.page.model?.name }];
    for (const { model, why } of models) rows.push(["Filled by", why ? `${model}: ${why}` : model ?? "unknown"]);
    const [left, top, right, bottom] = about.box;
    rows.push(["New pixels", `${right - left}x${bottom - top} at ${left}, ${top}`]);
    rows.push(["Of", `${round.original.name}, ${plural(round.original.width, "pixel")} wide`]);
    const list = document.createElement("dl");
    for (const [term, text] of rows) {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = term;
      dd.textContent = text;
      list.append(dt, dd);
    }
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Use this seed again";
    again.addEventListener("click", () => {
      $("details").hidePopover();
      this.page.settings.reuse(seed);
    });
    $("details").replaceChildren(list, again);
  }
}
