// The fields under the photo: read, checked, and shown in words.

import { tell } from "./words.js";

const SEEDS = 2 ** 40; // that there are
const SHORT = 1e6; // random ones are below it, to be read and typed by people

const KEPT = { diverse: "different" }; // in plain words, where the server's are not

export class Settings {
  /** `changed()` is called when the number of completions changes. */
  constructor(form, changed) {
    this.field = (id) => form.querySelector(`#${id}`);
    this.most = 16; // completions the server draws at once
    this.temperatureOfModel = 1; // as the slider can show it; untouched, it is not sent
    form.addEventListener("input", () => {
      this.describe();
      changed();
    });
    this.describe();
  }

  get count() {
    return Number(this.field("count").value);
  }

  /** What downloads are written as, undefined for the photo's own format. */
  get format() {
    return this.field("format").value || undefined;
  }

  /** Take over what the server allows, and what its first model does unless told otherwise. */
  adopt({ temperature, limits, choices }) {
    const options = choices.map((name) => new Option(`keep the most ${KEPT[name] ?? name}`, name));
    this.field("choose").replaceChildren(this.field("choose").options[0], ...options);
    this.most = limits.samples;
    this.field("count").max = Math.min(32, limits.samples);
    this.field("of").max = limits.samples;
    const slider = this.field("temperature");
    const moved = Number(slider.value) !== this.temperatureOfModel && slider.value; // before the server had answered
    this.startAt(temperature);
    if (moved) {
      slider.value = moved;
      this.describe();
    }
  }

  /** Take over a model's own temperature, where "safe" to "bold" begins. */
  startAt(temperature) {
    const slider = this.field("temperature");
    slider.max = Math.max(slider.max, temperature);
    slider.value = temperature;
    this.temperatureOfModel = Number(slider.value);
    this.describe();
  }

  describe() {
    this.field("count-text").textContent = this.field("count").value;
    this.field("temperature").setAttribute("aria-valuetext", `temperature ${this.field("temperature").value}`);
    const percent = `${Math.round(100 * this.amount)} %`;
    this.field("amount-text").textContent = percent;
    this.field("amount").setAttribute("aria-valuetext", percent);
    this.field("of-field").hidden = !this.field("choose").value;
  }

  /** Use this seed next time. */
  reuse(seed) {
    this.field("seed").value = seed;
    tell(this.field("seed-error"));
    this.field("settings").showPopover();
    this.field("seed").focus();
  }

  /** Return what to draw, {num_samples, seed, of, choose}, or null when a field is wrong, which is said there. */
  draw(choosing) {
    const seed = this.number("seed", 0, SEEDS - 1, true, "Expected a whole number, or nothing for any seed.");
    const choose = (choosing && this.field("choose").value) || undefined;
    const of = choose ? this.number("of", this.count, this.most) : undefined;
    if (seed === null || of === null) return null;
    return { num_samples: this.count, seed: seed ?? Math.floor(SHORT * Math.random()), of, choose };
  }

  /** Return how to draw, {temperature, strategy, dilate, feather, seamless}, or null when a field is wrong. */
  how() {
    const [dilate, feather] = [this.number("dilate", 0, 32, true), this.number("feather", 0, 256, true)];
    if (dilate === null || feather === null) return null;
    const temperature = Number(this.field("temperature").value);
    return {
      temperature: temperature === this.temperatureOfModel ? undefined : temperature,
      strategy: this.field("strategy").value || undefined,
      dilate: dilate || undefined,
      feather: feather || undefined,
      seamless: this.field("seamless").checked ? undefined : false,
    };
  }

  get amount() {
    return Number(this.field("amount").value);
  }

  /** Return a whole number, undefined where an optional field is empty; null, with words at the field, when wrong. */
  number(id, low, high, optional = false, expected = `Expected a whole number from ${low} to ${high}.`) {
    const input = this.field(id);
    const text = input.value.trim();
    const value = Number(text);
    const empty = text === "" && !input.validity.badInput;
    const fits = empty ? optional : /^\d+$/.test(text) && value >= low && value <= high;
    input.setAttribute("aria-invalid", String(!fits));
    tell(this.field(`${id}-error`), fits ? "" : expected);
    if (fits) return empty ? undefined : value;
    this.field("settings").showPopover();
    input.focus();
    return null;
  }
}
