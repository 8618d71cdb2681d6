// What one click asks for and how the gallery shows it: {ask, title, original, hole, box, seen}; `box` is the hole's and
// `seen` the square the model sees.

import { squareAround, wholeSquare } from "./tile.js";
import { plural } from "./words.js";

const WHOLE = 4; // a square photo up to this many times the model's size is seen whole, as in crops.py

/** Fill a hole of a photo; `size` is the model's. */
export function freshPlan({ photo, mask }, count, how, size) {
  const hole = mask.copy();
  const box = hole.measure();
  const all = how.strategy === "resize" ||
    (!how.strategy && photo.width === photo.height && photo.width <= WHOLE * size);
  const seen = all ? wholeSquare(photo) : squareAround(photo, box);
  const ask = { kind: "fresh", photo, mask: hole, how };
  return { ask, title: plural(count, "variation"), original: photo, hole, box, seen };
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
  const { original, hole, box, seen } = round;
  return { original, hole, box, seen };
}
