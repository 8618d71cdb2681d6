// The keys of tools people know. Letters act on the photo's side of the page only, never while something is typed.

const TOOLS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso" };

export class Keys {
  /** `page` has painting, compare(on, element) and escape(). */
  constructor(page) {
    this.page = page;
    document.addEventListener("keydown", (event) => this.down(event));
    document.addEventListener("keyup", (event) => this.up(event));
    window.addEventListener("blur", () => page.compare(false));
  }

  down(event) {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return this.page.escape();
    if (typing(event.target)) return;
    if (event.ctrlKey || event.metaKey) this.command(event);
    else if (!event.altKey) this.plain(event);
  }

  command(event) {
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) this.page.painting.step("redo");
    else this.page.painting.step("undo");
  }

  plain(event) {
    const { page } = this;
    const key = event.key.toLowerCase();
    if (key === "c" && !event.repeat) page.compare(true, event.target);
    if (event.target !== document.body && !event.target.closest("#work")) return;
    if (TOOLS[key]) page.painting.choose(TOOLS[key]);
    if (key === "[" || key === "]") page.painting.resize(key === "[" ? -2 : 2);
    if (key === "+" || key === "=") page.painting.zoom(1.25);
    if (key === "-") page.painting.zoom(0.8);
    if (key === "0") page.painting.zoom(0);
  }

  up(event) {
    if (event.key.toLowerCase() === "c") this.page.compare(false, event.target);
  }
}

function typing(element) {
  return element.matches?.("select, input:not([type='range'], [type='checkbox'])");
}
