// A line over the picture that says what was done and offers to undo it.

const SHOWN = 10000; // milliseconds

const $ = (id) => document.getElementById(id);

export class Toast {
  constructor() {
    this.restore = null;
    this.timer = null;
    $("restore").addEventListener("click", () => this.undo());
  }

  show(text, restore = null) {
    clearTimeout(this.timer);
    this.restore = restore;
    $("toast").querySelector("p").textContent = text;
    $("restore").hidden = !restore;
    $("toast").classList.add("shown");
    this.timer = setTimeout(() => $("toast").classList.remove("shown"), SHOWN);
  }

  /** Undo what was done last, long after the line is gone too; say whether there was something. */
  undo() {
    const { restore } = this;
    this.restore = null;
    $("toast").classList.remove("shown");
    restore?.();
    return Boolean(restore);
  }
}
