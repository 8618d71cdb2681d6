// What one click asks for and how the gallery shows it: {ask, title, original, hole, box}; `box` is the hole's.

import { plural } from "./words.js";

/** Fill a hole of a photo. */
export function freshPlan({ photo, mask }, count, how) {
  const hole = mask.copy();
  const ask = { kind: "fresh", photo, mask: hole, how };
  return { ask, title: plural(count, "variation"), original: photo, hole, box: hole.measure() };
}

/** More like a variation that there is. */
export function nearPlan(tile, count, amount) {
  return { ...shownAs(tile), ask: { kind: "near", of: tile, amount }, title: `${count} more like ${tile.name}` };
}

/** A part, a Mask, of a variation's hole again. */
export function partPlan(tile, count, part) {
  const ask = { kind: "part", of: tile, part: part.copy() };
  return { ...shownAs(tile), ask, title: `A part of ${tile.name}, ${plural(count, "time")} anew` };
}

function shownAs({ round }) {
  const { original, hole, box } = round;
  return { original, hole, box };
}
