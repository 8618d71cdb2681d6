// What completions were asked for by: functions that start a job for {num_samples, seed, ...} and can do so again.
// The server forgets jobs, when they are cancelled and after a while. The same seed gives the same codes, so that a
// completion it no longer has is drawn once more before something is made of it.

import { ApiError } from "./api.js";
import { maskToPng } from "./png.js";
import { sentence } from "./words.js";

/** Ask for completions of a photo's hole, a Mask. */
export function askFresh(api, photo, hole, how) {
  return async (draw) => api.start("/jobs", { photo: photo.file, mask: await maskToPng(hole), ...how, ...draw });
}

/** Ask for more like a completion, {ask, place: {job, index}, seed}. */
export function askNear(api, completion, amount) {
  return ({ num_samples, seed }) =>
    atPlace(api, completion, ({ job, index }) =>
      api.startJson(`/jobs/${job}/near`, { index, amount, num_samples, seed }));
}

/** Ask for a part of a completion's hole, a Mask, to be drawn anew. */
export function askRedraw(api, completion, part) {
  return ({ num_samples, seed }) =>
    atPlace(api, completion, async ({ job, index }) =>
      api.start(`/jobs/${job}/redraw`, { index, part: await maskToPng(part), num_samples, seed }));
}

async function atPlace(api, completion, ask) {
  try {
    return await ask(completion.place);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  completion.place = await again(api, completion);
  return ask(completion.place);
}

async function again(api, { ask, seed }) {
  const job = await ask({ num_samples: 1, seed });
  for await (const [kind, data] of api.events(job.events)) {
    if (kind === "error") throw new ApiError(sentence(data.error), 500);
  }
  return { job: job.id, index: 0 };
}
