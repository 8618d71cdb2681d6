// The keys of tools people know, never while something is typed. Letters act beside the photo only.

const TOOLS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", x: "extend" };

export class Keys {
  /** `page` has painting, viewing, comparing, downloads, mode, hold(on, element), escape(), undo(), redo(), fill() and
      full(). */
  constructor(page) {
    this.page = page;
    document.addEventListener("keydown", (event) => this.down(event));
    document.addEventListener("keyup", (event) => this.up(event));
    window.addEventListener("blur", () => page.hold(false));
  }

  down(event) {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (!document.querySelector(":popover-open")) this.page.escape();
      return;
    }
    if (event.ctrlKey || event.metaKey) this.command(event);
    else if (!event.altKey && !typing(event.target)) this.plain(event);
  }

  command(event) {
    const { page } = this;
    const viewing = page.mode === "view";
    const typed = typing(event.target);
    const act = {
      z: !typed && (event.shiftKey ? () => page.redo() : () => page.undo()),
      y: !typed && (() => page.redo()),
      s: viewing && (() => page.downloads.save(page.tile)),
      c: viewing && !typed && getSelection().isCollapsed && (() => page.downloads.copy(page.tile)),
      enter: page.mode !== "empty" && (() => page.fill()),
    }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  }

  plain(event) {
    const { page } = this;
    const key = event.key.toLowerCase();
    if (key === "c" && !event.repeat) page.hold(true, event.target);
    if (key === "f" && page.mode !== "empty") page.full();
    if (page.mode === "view") this.view(event, key);
    if (event.target !== document.body && !event.target.closest("#work")) return;
    if (TOOLS[key] && page.target) page.painting.choose(TOOLS[key]);
    if (key === "[" || key === "]") page.painting.resize(key === "[" ? -2 : 2);
    if (key === "+" || key === "=") page.painting.zoom(1.25);
    if (key === "-") page.painting.zoom(0.8);
    if (key === "0") page.painting.zoom(0);
  }

  /** Keys of a variation that is shown large. */
  view(event, key) {
    const { page } = this;
    const step = { arrowleft: -1, arrowright: 1 }[key];
    if (step && !event.target.matches("input, select")) {
      event.preventDefault();
      page.viewing.step(step);
    }
    if (key === "s") page.viewing.choose(page.tile);
    if (key === "delete" || key === "backspace") page.viewing.discard(page.tile);
    if (key === "d") page.comparing.turn("slider");
    if (key === "a") page.comparing.turn("side");
  }

  up(event) {
    if (event.key.toLowerCase() === "c") this.page.hold(false, event.target);
  }
}

function typing(element) {
  return element.matches?.("select, input:not([type='range'], [type='checkbox'])");
}
