// A session as one file, a zip archive: session.json, and beside it photos, masks and what is new of each variation.

import { saveAs } from "./intake.js";
import { openPicture, extended, readMask } from "./photo.js";
import { maskToPng } from "./png.js";
import { plural, tell } from "./words.js";
import { Work } from "./work.js";
import { unzip, zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const KIND = "manifill session 1";

export class Session {
  /** `page` has work, gallery, downloads, goTo(work) and say(words). */
  constructor(page) {
    this.page = page;
    $("save-session").addEventListener("click", () => this.save());
  }

  async save() {
    const { work, gallery, downloads } = this.page;
    if (!work) return tell($("photo-error"), "There is nothing to save yet: open a photo first.");
    saveAs(await packed(gallery, work), `${work.photo.stem}_session.zip`);
    downloads.unsaved = false;
  }

  /** Take over a session that was saved; what there is stays too. */
  async open(file) {
    const { gallery } = this.page;
    const { photo, mask, plans } = await opened(file);
    for (const { results, warnings, ...plan } of plans) {
      const round = gallery.add(plan);
      round.warn(warnings);
      for (const [k, { patch, seed, about, chosen }] of results.entries()) {
        await round.tiles[k].show(patch, { seed, ...about }, null);
        round.tiles[k].choose(chosen);
      }
      round.close("from a session", false);
    }
    gallery.settle();
    this.page.goTo(new Work(photo, mask, this.page.work));
    this.page.say(`Opened a session with ${plural(gallery.tiles.length, "variation")}.`);
  }
}

/** Return a gallery and what is worked on as a Blob. */
async function packed(gallery, work) {
  const pack = new Pack();
  const rounds = [];
  for (const round of [...gallery.rounds].reverse()) {
    const { original, hole, box, title, warnings } = round;
    const tiles = round.kept.map(({ patch, seed, about, chosen }) =>
      ({ patch: pack.add("patches", "png", patch), seed, about, chosen }));
    rounds.push({
      title, box, warnings, tiles, photo: await pack.photo(original), hole: await pack.mask(hole),
      ask: await pack.ask(round.ask),
    });
  }
  const now = { photo: await pack.photo(work.photo), mask: await pack.mask(work.mask) };
  const about = new Blob([JSON.stringify({ kind: KIND, photos: pack.photos, now, rounds }, null, 1)]);
  return zip([["session.json", about], ...pack.files]);
}

class Pack {
  constructor() {
    this.files = [];
    this.photos = []; // {name, type, file, sides}
    this.known = new Map();
  }

  add(folder, suffix, blob) {
    const name = `${folder}/${String(this.files.length).padStart(3, "0")}.${suffix}`;
    this.files.push([name, blob]);
    return name;
  }

  /** Return the number of a photo; of the same file, made larger, the file is kept once. */
  async photo(photo) {
    if (this.known.has(photo)) return this.known.get(photo);
    const { file, name, type, sides } = photo;
    if (!this.known.has(file)) this.known.set(file, this.add("photos", name.split(".").at(-1), file));
    this.known.set(photo, this.photos.push({ name, type, file: this.known.get(file), sides }) - 1);
    return this.known.get(photo);
  }

  async mask(mask) {
    if (!this.known.has(mask)) this.known.set(mask, mask.data.includes(1) ? this.add("masks", "png", await maskToPng(mask)) : null);
    return this.known.get(mask);
  }

  async ask({ kind, ...ask }) {
    if (kind === "fresh") return { kind, how: ask.how, photo: await this.photo(ask.photo), mask: await this.mask(ask.mask) };
    const of = { seed: ask.of.seed, ask: await this.ask(ask.of.ask) };
    return kind === "near" ? { kind, of, amount: ask.amount } : { kind, of, part: await this.mask(ask.part) };
  }
}

/** Open a session file: {photo, mask, plans}, each plan with the `results` that it had, {patch, seed, about, chosen}. */
async function opened(file) {
  let [files, session] = [];
  try {
    files = await unzip(file);
    session = JSON.parse(await files.get("session.json").text());
    if (session.kind !== KIND) throw new Error(`its kind is ${session.kind}`);
  } catch (error) {
    throw new Error(`${file.name} is not a session of this page (${error.message}).`);
  }
  const open = new Opened(files, session.photos);
  const plans = [];
  for (const { photo, hole, ask, tiles, ...round } of session.rounds) {
    const original = await open.photo(photo);
    const results = tiles.map((tile) => ({ ...tile, patch: files.get(tile.patch) }));
    const plan = { ...round, original, hole: await open.mask(hole, original), ask: await open.ask(ask) };
    plans.push({ ...plan, count: results.length, results });
  }
  const photo = await open.photo(session.now.photo);
  return { photo, mask: await open.mask(session.now.mask, photo), plans };
}

class Opened {
  constructor(files, photos) {
    Object.assign(this, { files, photos });
    this.known = new Map();
  }

  async photo(number) {
    const { name, type, file, sides } = this.photos[number];
    if (!this.known.has(number)) {
      const bytes = new File([this.files.get(file)], name, { type });
      this.known.set(number, extended(await openPicture(bytes), sides));
    }
    return this.known.get(number);
  }

  async mask(name, photo) {
    if (name === null) return undefined;
    if (!this.known.has(name)) this.known.set(name, await readMask(this.files.get(name), photo.width, photo.height));
    return this.known.get(name).copy();
  }

  async ask({ kind, ...ask }) {
    if (kind === "fresh") {
      const photo = await this.photo(ask.photo);
      return { kind, how: ask.how, photo, mask: await this.mask(ask.mask, photo) };
    }
    const of = { seed: ask.of.seed, ask: await this.ask(ask.of.ask), place: null };
    if (kind === "near") return { kind, of, amount: ask.amount };
    return { kind, of, part: await this.mask(ask.part, photoOf(of.ask)) };
  }
}

function photoOf(ask) {
  return ask.kind === "fresh" ? ask.photo : photoOf(ask.of.ask);
}
