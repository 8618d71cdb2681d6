// Drawing: one click's job from its start to its end, in the gallery and in words.

import { plural, sentence, tell, words } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Drawing {
  constructor(api, gallery, settle) {
    Object.assign(this, { api, gallery, settle });
    this.stop = null; // an AbortController while something is drawn
    $("cancel").addEventListener("click", () => this.cancel());
  }

  get running() {
    return this.stop !== null;
  }

  /** Draw what a plan asks for, {ask, draw, ...what a Round is made of}. */
  async start(plan) {
    this.stop = new AbortController();
    this.round = this.job = null;
    this.seen = { structures: 0, completions: 0 };
    this.report("Sending the photo…");
    this.settle();
    $("cancel").focus({ preventScroll: true });
    try {
      await this.run(plan, this.stop.signal);
    } catch (error) {
      if (!this.stop.signal.aborted) this.fail(error);
    }
    this.stop = null;
    const focused = document.activeElement === $("cancel") || document.activeElement === document.body;
    this.settle();
    if (focused) $("start").focus({ preventScroll: true });
  }

  async run(plan, signal) {
    this.job = await plan.ask(plan.draw);
    if (signal.aborted) return this.api.forget(this.job.id);
    const round = (this.round = await this.gallery.add(plan));
    round.job = this.job.id;
    this.job.seeds?.forEach((seed, k) => !plan.draw.of && round.tiles[k]?.setSeed(seed));
    const pictures = [];
    for await (const [kind, data] of this.api.events(this.job.events, signal)) {
      if (kind === "structure" || kind === "completion") pictures.push(this.fetch(kind, data, signal));
      else await this.turn(kind, data, pictures);
    }
  }

  /** Put a picture into its tile; one that cannot be had any more is no reason to stop. */
  async fetch(kind, { index, seed, image }, signal) {
    const tile = this.round.tiles[index];
    if (!tile) return;
    try {
      const file = await this.api.blob(image);
      if (kind === "structure") await tile.showStructure(file);
      else await tile.showCompletion(file, `${this.round.stem}_seed${seed}.png`, seed, { job: this.round.job, index });
      if (!signal.aborted) this.count(kind);
    } catch (error) {
      if (!signal.aborted) this.round.tell(`${words(error)} (completion ${index + 1})`);
    }
  }

  count(kind) {
    const { seen, round } = this;
    seen[`${kind}s`]++;
    if (seen.completions) this.report(`Painted ${seen.completions} of ${round.count}`);
    else this.report(`Structures drawn: ${seen.structures} of ${round.count}`);
    $("bar").value = (0.3 * seen.structures + 0.7 * seen.completions) / round.count;
  }

  async turn(kind, data, pictures) {
    if (kind === "queued") {
      const ahead = `Waiting; ${plural(data.position, "drawing is", "drawings are")} ahead of yours`;
      if (!this.seen.structures) this.report(data.position > 0 ? ahead : "Drawing structures…");
      return;
    }
    await Promise.all(pictures);
    const { round } = this;
    if (kind === "done") {
      round.close(`${data.seconds.toFixed(1)} s`, true);
      this.report(`${plural(round.drawn, "completion")} in ${data.seconds.toFixed(1)} s`, true);
    } else {
      this.api.forget(round.job);
      round.close(kind === "cancelled" ? `cancelled at ${round.summary}` : `stopped at ${round.summary}`, false);
      this.report("", true);
      if (kind === "error") round.tell(sentence(data.error));
      if (kind === "cancelled") round.tell("The server cancelled this drawing: the page had been away for too long.");
    }
  }

  /** Cancel what is drawn; what is there already stays. */
  cancel() {
    if (!this.running || this.stop.signal.aborted) return;
    this.stop.abort();
    if (this.job) this.api.forget(this.job.id);
    this.round?.close(`cancelled at ${this.round.summary}`, false);
    this.report(this.round ? `Cancelled at ${this.round.summary}` : "Cancelled", true);
  }

  fail(error) {
    this.report("", true);
    if (this.round) {
      this.round.close(`stopped at ${this.round.summary}`, false);
      this.round.tell(words(error));
    } else {
      tell($("draw-error"), words(error));
    }
  }

  report(text, over = false) {
    $("progress-text").textContent = text;
    if (!over) this.round?.report(text.toLowerCase());
    $("progress").hidden = over;
    if (over) $("bar").value = 0;
  }
}
