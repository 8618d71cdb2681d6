// Comparing what is shown large with the photo as it was, or with another variation: held, by a slider, side by side.

const $ = (id) => document.getElementById(id);

export class Compare {
  /** `page` has tile, mode, gallery and say(words). */
  constructor(page, stage) {
    Object.assign(this, { page, stage });
    this.how = null; // "slider" or "side"
    this.against = null; // a variation, or null for the photo as it was
    for (const how of ["slider", "side"]) $(how).addEventListener("click", () => this.turn(how));
    $("against").addEventListener("change", () => this.take(page.gallery.tiles.find((t) => t.name === $("against").value)));
    $("divider").addEventListener("input", () => {
      stage.divider = Number($("divider").value);
      stage.redraw();
    });
    this.listenToHold($("compare"));
  }

  /** The photo as it was shows while the button is held, by pointer or by key. */
  listenToHold(button) {
    button.addEventListener("pointerdown", () => this.hold(true));
    for (const kind of ["pointerup", "pointercancel", "pointerleave", "blur"]) {
      button.addEventListener(kind, () => this.hold(false));
    }
    const held = (on) => (event) => {
      if (event.key === " " || event.key === "Enter") this.hold(on);
    };
    button.addEventListener("keydown", held(true));
    button.addEventListener("keyup", held(false));
  }

  hold(on) {
    const can = on && this.page.mode === "view";
    this.stage.comparing = can;
    $("compare").setAttribute("aria-pressed", String(can));
    $("badge").hidden = !can;
    this.stage.redraw();
  }

  /** Move the slider to a place on the canvas. */
  divide(at) {
    this.stage.divide(at);
    $("divider").value = this.stage.divider;
  }

  /** Begin to compare by "slider" or "side", or end it. */
  turn(how) {
    if (this.page.mode !== "view") return;
    this.how = this.how === how ? null : how;
    if (!this.how) this.against = null;
    this.settle();
    if (this.how) this.page.say(how === "slider" ? "Move the slider to compare" : "Shown side by side");
  }

  /** Compare with another variation, or with the photo for none. */
  take(tile) {
    this.against = tile && tile !== this.page.tile ? tile : null;
    this.settle();
  }

  /** Bring the stage and the fields in line with what is compared; `page.tile` may have changed. */
  settle() {
    const { page, stage } = this;
    const { tile } = page;
    const on = page.mode === "view" && this.how;
    if (this.against === tile || !page.gallery.tiles.includes(this.against)) this.against = null;
    const other = this.against;
    stage.compare(on || null, on && (other?.picture ?? tile.round.original));
    for (const how of ["slider", "side"]) $(how).setAttribute("aria-pressed", String(on === how));
    $("divider").hidden = on !== "slider";
    $("against").hidden = $("name-a").hidden = $("name-b").hidden = !on;
    if (page.mode === "view") page.gallery.mark(tile, on ? other : null);
    if (!on) return;
    const same = page.gallery.tiles.filter((t) => t !== tile && t.round.original === tile.round.original);
    $("against").replaceChildren(new Option("with the photo", ""), ...same.map((t) => new Option(`with ${t.name}`, t.name)));
    $("against").value = other?.name ?? "";
    const names = [tile.name, other?.name ?? "Photo"];
    if (on === "slider") names.reverse();
    [$("name-a").textContent, $("name-b").textContent] = names;
  }
}
