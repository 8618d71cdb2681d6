// Mouse, fingers, pen and keyboard on the stage: painting, zooming, panning, comparing, and swiping to the next one.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STILL = 8; // CSS pixels that a finger or the mouse may move and still only presses
const SWIPE = 48; // CSS pixels that are a swipe
const GRIP = 24; // CSS pixels around the slider within which it is taken hold of

export class Input {
  /** Calls `commit()` after a stroke, `revert()` when one is given up, `compare(on)`, `step(by)` to another variation,
      `divide(at)` with the slider and `say(words)`; `extend` moves the photo's sides. */
  constructor(stage, { commit, revert, compare, step, divide, say, extend }) {
    Object.assign(this, { stage, commit, revert, compare, swipe: step, divide, say, extend });
    this.pointers = new Map(); // where each finger is, in pixels of the canvas
    this.from = null; // where the first one came down
    this.doing = null; // "stroke", "pan", "pinch", "side", "divide", "press" or "swipe"
    this.space = false;
    this.byMouse = false; // how the focus came to where it is
    this.penByKey = null; // the key that put the pen down
    this.hidden = null; // where the keyboard's cursor was when it was hidden
    this.listen(stage.canvas);
  }

  listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => this.setHover(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => this.stage.mask && event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("keyup", (event) => this.keyUp(event));
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.showCursor());
    canvas.addEventListener("blur", () => this.leave());
    window.addEventListener("keydown", (event) => this.hold(event));
    window.addEventListener("pointerdown", () => (this.byMouse = true), true);
    window.addEventListener("keydown", (event) => event.key === "Tab" && (this.byMouse = false), true);
    window.addEventListener("keyup", (event) => event.key === " " && this.setSpace(false));
    window.addEventListener("blur", () => this.setSpace(false));
  }

  down(event) {
    const { stage } = this;
    stage.canvas.focus({ preventScroll: true });
    stage.canvas.setPointerCapture(event.pointerId);
    if (this.penByKey) this.lift();
    this.hideCursor();
    const at = stage.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size > 1) {
      this.giveUp();
      this.doing = "pinch";
    } else if (event.button === 1 || this.space) {
      this.doing = "pan";
    } else if (this.extend.on) {
      this.doing = this.extend.begin(at) ? "side" : "pan";
    } else if (stage.mask) {
      stage.begin(stage.toPhoto(at), event.altKey || event.button === 2);
      this.doing = "stroke";
    } else if (stage.how === "slider" && this.onDivider(at)) {
      this.doing = "divide";
    } else if (event.button === 0) {
      this.doing = "press";
      this.from = at;
      if (!stage.how) this.compare(true);
    }
    event.preventDefault();
  }

  onDivider({ x }) {
    const { left, width } = this.stage.span;
    return Math.abs(x - left - this.stage.divider * width) < GRIP * this.stage.ratio;
  }

  moved(event) {
    const { stage } = this;
    const before = this.pointers.get(event.pointerId);
    const at = stage.at(event);
    if ((event.movementX || event.movementY) && !this.penByKey) this.hideCursor();
    this.setHover(event.pointerType === "touch" ? null : at);
    if (!before) return;
    if (this.doing === "pinch") this.pinch(event.pointerId, at);
    this.pointers.set(event.pointerId, at);
    if (this.doing === "press" && this.farFrom(at)) {
      this.compare(false);
      this.doing = stage.fitted ? "swipe" : "pan";
    }
    if (this.doing === "side") this.extend.drag(at);
    if (this.doing === "divide") this.divide(at);
    if (this.doing === "pan") stage.pan(at.x - before.x, at.y - before.y);
    if (this.doing === "stroke" && stage.stroke) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const e of events.length ? events : [event]) stage.extend(stage.toPhoto(stage.at(e)));
    }
  }

  farFrom({ x, y }) {
    return Math.hypot(x - this.from.x, y - this.from.y) > STILL * this.stage.ratio;
  }

  /** Zoom and pan so that what is under two fingers stays under them. */
  pinch(moving, at) {
    const before = this.pointers.get(moving);
    const other = [...this.pointers].find(([id]) => id !== moving)?.[1];
    if (!other) return;
    const distance = (p) => Math.max(1, Math.hypot(p.x - other.x, p.y - other.y));
    this.stage.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    this.stage.zoom(distance(at) / distance(before), { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
  }

  up(event, cancelled = false) {
    this.pointers.delete(event.pointerId);
    if (cancelled) this.giveUp();
    else if (this.doing === "stroke") this.finish();
    else if (this.doing === "side") this.extend.end();
    else if (this.doing === "swipe") this.swiped(this.stage.at(event));
    if (this.doing === "press") this.compare(false);
    if (!this.pointers.size) this.doing = null;
  }

  swiped({ x, y }) {
    const [dx, dy] = [x - this.from.x, y - this.from.y];
    if (Math.abs(dx) > SWIPE * this.stage.ratio && Math.abs(dx) > 2 * Math.abs(dy)) this.swipe(dx < 0 ? 1 : -1);
  }

  finish() {
    if (!this.stage.stroke) return;
    this.stage.end();
    this.commit();
  }

  /** Drop the stroke that is being drawn; say whether there was one. */
  giveUp() {
    this.penByKey = null;
    if (this.doing === "press") this.compare(false);
    if (this.extend.giveUp()) return true;
    if (!this.stage.stroke) return false;
    this.stage.stroke = null;
    this.revert();
    return true;
  }

  /** Zoom; at the smallest size, let the page scroll on. */
  wheel(event) {
    const { stage } = this;
    if (!stage.picture || (stage.fitted && event.deltaY > 0)) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 24 : 1;
    stage.zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY * unit)) * 0.002), stage.at(event));
  }

  setHover(at) {
    this.stage.hover = at;
    this.stage.redraw();
  }

  /** Space held by whoever works with the mouse: the photo is dragged instead of painted on. */
  hold(event) {
    const { stage } = this;
    const { target } = event;
    if (event.key !== " " || stage.cursor || !stage.picture || target.matches("input, select")) return;
    const left = this.byMouse && stage.hover; // a button that a click has left with the focus
    if (target !== document.body && target !== stage.canvas && !left) return;
    event.preventDefault();
    this.setSpace(true);
  }

  setSpace(on) {
    this.space = on;
    this.stage.canvas.classList.toggle("dragging", on);
  }

  showCursor() {
    const { stage } = this;
    if (!stage.mask || stage.cursor) return;
    const { width, height } = stage.pane;
    stage.cursor = this.inside(this.hidden ?? stage.toPhoto({ x: width / 2, y: height / 2 }));
    stage.redraw();
  }

  /** Hide the cursor; it comes back where it was. */
  hideCursor() {
    this.hidden = this.stage.cursor ?? this.hidden;
    this.stage.cursor = null;
    this.stage.redraw();
  }

  inside({ x, y }) {
    const { width, height } = this.stage.picture;
    return { x: Math.max(0, Math.min(width, Math.round(x))), y: Math.max(0, Math.min(height, Math.round(y))) };
  }

  key(event) {
    if (!this.stage.mask || event.ctrlKey || event.metaKey || this.extend.key(event)) return;
    if (ARROWS[event.key]) {
      event.preventDefault();
      this.showCursor();
      this.step(ARROWS[event.key], event.shiftKey);
    } else if ((event.key === " " || event.key === "Enter") && this.stage.cursor) {
      event.preventDefault();
      if (!event.repeat) this.pen(event.key);
    }
  }

  /** Move the cursor by a quarter of the brush, or by a pixel. */
  step([dx, dy], fine) {
    const { stage } = this;
    const by = fine ? 1 : Math.max(1, Math.round(stage.diameter / 4));
    stage.cursor = this.inside({ x: stage.cursor.x + dx * by, y: stage.cursor.y + dy * by });
    if (this.penByKey) stage.extend(stage.cursor);
    stage.redraw();
  }

  /** Enter puts the pen down and lifts it; Space paints while it is held, with rectangle and lasso like Enter. */
  pen(key) {
    if (this.penByKey) return this.lift();
    this.penByKey = key;
    this.stage.begin(this.stage.cursor, false);
    if (key === "Enter" || !this.stage.stroke.atOnce) this.say("Pen down. Move with the arrow keys.");
  }

  lift() {
    this.penByKey = null;
    this.finish();
  }

  keyUp(event) {
    if (event.key === " " && this.penByKey === " " && this.stage.stroke?.atOnce) this.lift();
  }

  leave() {
    if (this.penByKey) this.lift();
    this.hideCursor();
  }
}
