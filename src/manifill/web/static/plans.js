// What one click draws: what to ask the server for, and how the gallery shows it,
// {ask, title, about, stem, original, hole, box, seen}; `box` is the hole's and `seen` the square the model sees.

import { askFresh, askNear, askRedraw } from "./asks.js";
import { squareAround, wholeSquare } from "./tile.js";
import { plural } from "./words.js";

const WHOLE = 4; // a square photo up to this many times the model's size is seen whole, as in crops.py

/** Fill a hole of a photo; `size` is the model's. */
export function freshPlan(api, { photo, mask }, count, how, size) {
  const hole = mask.copy();
  const box = hole.measure();
  const all = how.strategy === "resize" ||
    (!how.strategy && photo.width === photo.height && photo.width <= WHOLE * size);
  const seen = all ? wholeSquare(photo) : squareAround(photo, box);
  const shown = { about: photo.name, stem: photo.stem, original: photo, hole, box, seen };
  return { ...shown, ask: askFresh(api, photo, hole, how), title: plural(count, "completion") };
}

/** Draw completions like one that there is. */
export function nearPlan(api, tile, count, amount) {
  return { ...shownAs(tile), ask: askNear(api, tile, amount), title: `${count} more like seed ${tile.seed}` };
}

/** Draw a part, a Mask, of a completion's hole anew. */
export function partPlan(api, tile, count, part) {
  const title = `${count} with a part of seed ${tile.seed} drawn anew`;
  return { ...shownAs(tile), ask: askRedraw(api, tile, part.copy()), title };
}

function shownAs({ round }) {
  const { about, stem, original, hole, box, seen } = round;
  return { about, stem, original, hole, box, seen };
}
