// Drawing: one click's job from its start to its end, in the gallery and in words.

import { start } from "./asks.js";
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
    this.report("Sending…");
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
    this.job = await start(this.api, plan.ask, plan.draw, (part) => this.sent(part));
    if (signal.aborted) return this.api.forget(this.job.id);
    const round = (this.round = this.gallery.add(plan));
    round.job = this.job.id;
    if (this.job.warnings?.length) round.warn(this.job.warnings);
    const pictures = [];
    for await (const [kind, data] of this.api.events(this.job.id, signal)) {
      if (kind === "structure" || kind === "completion") pictures.push(this.fetch(kind, data, signal));
      else await this.turn(kind, data, pictures);
    }
  }

  /** Say how much of the photo has gone, where that takes a while. */
  sent(part) {
    const percent = Math.round(100 * part);
    this.report(percent < 100 ? `Sending the photo: ${percent} %` : "Waiting for the first structures…");
    $("bar").value = percent < 100 ? part : 0;
  }

  /** Put a picture into its tile; one that cannot be had any more is no reason to stop. */
  async fetch(kind, data, signal) {
    const { round } = this;
    const tile = round.tiles[data.index];
    if (!tile) return;
    if (data.warnings) round.warn(data.warnings);
    try {
      const file = await this.api.blob(kind === "structure" ? data.image : data.patch, signal);
      if (kind === "structure") await tile.showStructure(file, data);
      else await tile.show(file, data, { job: round.job, index: data.index });
      if (!signal.aborted) this.count(kind);
    } catch (error) {
      if (!signal.aborted) round.tell(`${words(error)} (${tile.name})`);
    }
  }

  count(kind) {
    const { seen, round } = this;
    seen[`${kind}s`]++;
    if (seen.completions) this.report(`${seen.completions} of ${plural(round.count, "variation")}`);
    else this.report(`Structures: ${seen.structures} of ${round.count}`);
    if (seen.completions) this.gallery.settle();
    $("bar").value = (0.3 * seen.structures + 0.7 * seen.completions) / round.count;
  }

  async turn(kind, data, pictures) {
    if (kind === "queued") {
      const ahead = `Waiting; ${plural(data.position, "request is", "requests are")} ahead of yours`;
      if (!this.seen.structures) this.report(data.position > 0 ? ahead : "Making structures…");
      return;
    }
    await Promise.all(pictures);
    if (this.stop.signal.aborted) return;
    const { round } = this;
    if (data.warnings) round.warn(data.warnings);
    if (kind === "done") {
      round.close(`${data.seconds.toFixed(1)} s`, true);
      this.report(`${plural(round.drawn, "variation")} in ${data.seconds.toFixed(1)}\u00a0s`, true);
    } else {
      this.api.forget(round.job);
      round.close(kind === "cancelled" ? `Cancelled at ${round.summary}` : `Stopped at ${round.summary}`, false);
      this.report("", true);
      if (kind === "error") round.tell(sentence(data.error));
      if (kind === "cancelled") round.tell("The server stopped: the page had been away for too long.");
    }
  }

  /** Cancel what is drawn; what is there already stays. */
  cancel() {
    if (!this.running || this.stop.signal.aborted) return;
    this.stop.abort();
    if (this.job) this.api.forget(this.job.id);
    this.round?.close(`Cancelled at ${this.round.summary}`, false);
    this.report(this.round ? `Cancelled at ${this.round.summary}` : "Cancelled", true);
  }

  fail(error) {
    this.report("", true);
    if (this.round) {
      this.round.close(`Stopped at ${this.round.summary}`, false);
      this.round.tell(words(error));
    } else {
      tell($("draw-error"), words(error));
    }
  }

  report(text, over = false) {
    $("progress-text").textContent = text;
    $("progress").hidden = over;
    if (over) $("bar").value = 0;
  }
}
