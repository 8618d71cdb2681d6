// Undo and redo of a mask: each step is the runs of pixels it flipped, so that doing and undoing are the same.

export class History {
  constructor(mask) {
    this.mask = mask;
    this.committed = mask.data.slice();
    this.past = [];
    this.future = [];
  }

  /** Make what was drawn since the last step one step; say whether anything changed. */
  commit() {
    const runs = differences(this.committed, this.mask.data);
    if (!runs.length) return false;
    flip(this.committed, runs);
    this.past.push(runs);
    this.future = [];
    return true;
  }

  /** Forget what was drawn since the last step. */
  revert() {
    this.mask.data.set(this.committed);
  }

  undo() {
    return this.move(this.past, this.future);
  }

  redo() {
    return this.move(this.future, this.past);
  }

  move(from, to) {
    this.revert();
    const runs = from.pop();
    if (!runs) return false;
    flip(this.committed, runs);
    flip(this.mask.data, runs);
    to.push(runs);
    return true;
  }
}

/** List where two arrays of 0 and 1 differ, as [start, end, start, end, ...]. */
function differences(a, b) {
  const runs = [];
  for (let k = 0; k < a.length; k++) {
    if (a[k] === b[k]) continue;
    runs.push(k);
    while (k < a.length && a[k] !== b[k]) k++;
    runs.push(k);
  }
  return runs;
}

function flip(data, runs) {
  for (let r = 0; r < runs.length; r += 2) {
    for (let k = runs[r]; k < runs[r + 1]; k++) data[k] ^= 1;
  }
}
