// What is worked on: a photo, its hole and the steps back. Taking another photo is a step too.

import { History } from "./history.js";
import { Mask } from "./mask.js";

const KEPT = 6; // photos one can go back to

export class Work {
  constructor(photo, mask = new Mask(photo.width, photo.height), before = null) {
    this.photo = photo;
    this.mask = mask;
    this.history = new History(mask);
    this.before = before;
    this.after = null;
    if (before) {
      before.after = this;
      before.history.future = [];
    }
    this.forget(KEPT);
  }

  /** Let go of photos further back. */
  forget(kept) {
    if (kept === 0) this.before = null;
    else this.before?.forget(kept - 1);
  }

  get canUndo() {
    return this.history.past.length > 0 || this.before !== null;
  }

  get canRedo() {
    return this.history.future.length > 0 || this.after !== null;
  }

  /** Make what was drawn a step; say whether anything changed. */
  commit() {
    const changed = this.history.commit();
    if (changed) this.after = null;
    return changed;
  }

  /** Go a step back: return what is then worked on. */
  undo() {
    return this.history.undo() ? this : this.before ?? this;
  }

  redo() {
    return this.history.redo() ? this : this.after ?? this;
  }
}
