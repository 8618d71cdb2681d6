// Extending the picture: its sides are dragged outward, or moved by arrow keys; what is added is hole.

import { Mask } from "./mask.js";
import { extended } from "./photo.js";
import { Work } from "./work.js";

const $ = (id) => document.getElementById(id);
const SIDES = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "top", ArrowDown: "bottom" };
const REACH = 36; // CSS pixels around a side within which it is taken hold of
const STEP = 16; // arrow presses from nothing to a whole width
const HINT = "Drag a side outward";

export class Extend {
  /** `page` has work, mode, goTo(work), painting and say(words). */
  constructor(page, stage) {
    Object.assign(this, { page, stage });
    this.side = null; // the one that is dragged
  }

  get on() {
    return this.stage.sides !== null;
  }

  turn(on) {
    if (on === this.on || !this.stage.picture) return;
    this.stage.extending(on);
    $("hint").hidden = !on;
    $("hint").textContent = HINT;
  }

  /** How far a side may go: half of what the file is, all in all. */
  most(side) {
    const { photo } = this.page.work;
    const { sides } = photo;
    const across = side === "left" || side === "right";
    const own = across ? photo.width - sides.left - sides.right : photo.height - sides.top - sides.bottom;
    return Math.floor(own / 2) - sides[side];
  }

  /** Take hold of the side at a place on the canvas; say whether there is one. */
  begin(at) {
    const { stage } = this;
    const { width, height } = stage.picture;
    const { x, y } = stage.toPhoto(at);
    const reach = (REACH * stage.ratio) / stage.view.scale;
    const away = { left: -x, right: x - width, top: -y, bottom: y - height };
    const side = Object.keys(away).reduce((a, b) => (away[a] > away[b] ? a : b));
    if (away[side] < -reach) return false;
    this.side = side;
    this.drag(at);
    return true;
  }

  drag(at) {
    const { width, height } = this.stage.picture;
    const { x, y } = this.stage.toPhoto(at);
    this.set(this.side, { left: -x, right: x - width, top: -y, bottom: y - height }[this.side]);
  }

  set(side, pixels) {
    const { sides } = this.stage;
    sides[side] = Math.max(0, Math.min(this.most(side), Math.round(pixels)));
    const { photo } = this.page.work;
    const [w, h] = [photo.width + sides.left + sides.right, photo.height + sides.top + sides.bottom];
    $("hint").textContent = `${w} x ${h}`;
    this.stage.redraw();
  }

  /** Make the photo as large as was shown. */
  end() {
    this.side = null;
    const { sides } = this.stage;
    $("hint").textContent = HINT;
    if (!Object.values(sides).some(Boolean)) return;
    const { work } = this.page;
    const photo = extended(work.photo, sides);
    const mask = new Mask(photo.width, photo.height);
    mask.data.fill(1);
    mask.place(work.mask, sides.left, sides.top);
    this.page.goTo(new Work(photo, mask, work));
    this.stage.extending(true);
    this.page.say(`The picture has ${photo.width} by ${photo.height} pixels now; what was added is hole.`);
  }

  giveUp() {
    if (!this.on || !this.side) return false;
    this.side = null;
    this.stage.extending(true);
    $("hint").textContent = HINT;
    return true;
  }

  /** Arrow keys move a side outward, with Shift back; Enter ends. */
  key(event) {
    const side = SIDES[event.key];
    if (!this.on || (!side && event.key !== "Enter")) return false;
    event.preventDefault();
    if (!side) {
      this.end();
      return true;
    }
    const { photo } = this.page.work;
    const step = Math.max(1, Math.round((side === "left" || side === "right" ? photo.width : photo.height) / STEP));
    this.set(side, this.stage.sides[side] + (event.shiftKey ? -step : step));
    return true;
  }
}
