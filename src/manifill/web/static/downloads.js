// Variations as files: one, those that were chosen, a copy for another program; and a question before they are lost.

import { atPlace } from "./asks.js";
import { saveAs } from "./intake.js";
import { tell, words } from "./words.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const OWN = { "image/jpeg": "jpeg", "image/webp": "webp", "image/avif": "avif", "image/heic": "heif", "image/heif": "heif" };
const SUFFIX = { jpeg: "jpg", heif: "heic" };
const NO_CLIPBOARD = "This browser lets no page copy pictures here; download it instead.";

export class Downloads {
  /** `page` has api, gallery, settings, tile, mode, toast and say(words). */
  constructor(page) {
    this.page = page;
    this.unsaved = false; // whether there are variations that no file has
    $("save").addEventListener("click", () => this.save(page.tile));
    $("copy").addEventListener("click", () => this.copy(page.tile));
    $("download").addEventListener("click", () => this.all());
    window.addEventListener("beforeunload", (event) => {
      if (this.unsaved && page.gallery.tiles.length) event.preventDefault();
    });
  }

  /** Fetch a variation as a File, in the format that was set or in the photo's own; as PNG where that cannot hold it. */
  async fetch(tile, format = this.page.settings.format ?? OWN[tile.round.original.type] ?? "png") {
    const { api } = this.page;
    const get = (kind) => atPlace(api, tile, ({ job, index }) => api.file(job, `completions/${index}.${kind}`));
    let [kind, file] = [format, null];
    try {
      file = await get(kind);
    } catch (error) {
      if (error.status !== 422 || kind === "png") throw error;
      file = await get((kind = "png"));
    }
    const number = String(tile.number).padStart(2, "0");
    return new File([file], `${tile.round.original.stem}_${number}.${SUFFIX[kind] ?? kind}`, { type: `image/${kind}` });
  }

  async save(tile) {
    await this.attempt(async () => {
      const file = await this.fetch(tile);
      saveAs(file, file.name);
      this.unsaved = false;
    });
  }

  /** Save the chosen ones, or all: one as it is, several in an archive. */
  async all() {
    const tiles = this.page.gallery.chosen;
    if (tiles.length === 1) return this.save(tiles[0]);
    $("download").disabled = true;
    await this.attempt(async () => {
      const files = [];
      for (const tile of tiles) {
        this.page.say(`Fetching ${files.length + 1} of ${tiles.length}`);
        const file = await this.fetch(tile);
        files.push([file.name, file]);
      }
      saveAs(await zip(files), `${tiles[0].round.original.stem}_variations.zip`);
      this.unsaved = false;
    });
    $("download").disabled = false;
  }

  async copy(tile) {
    if (!navigator.clipboard?.write) return tell($("draw-error"), NO_CLIPBOARD);
    await this.attempt(async () => {
      const png = this.fetch(tile, "png").then((file) => new Blob([file], { type: "image/png" }));
      await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
      this.page.toast.show(`${tile.name} copied`);
    });
  }

  async attempt(act) {
    const place = this.page.mode === "view" ? $("draw-error") : $("download-error");
    tell(place);
    try {
      await act();
    } catch (error) {
      tell(place, words(error));
    }
  }
}
