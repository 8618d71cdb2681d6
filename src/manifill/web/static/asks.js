// What variations were asked for by: plain data, so that it can be asked again and kept in a session,
//   {kind: "fresh", photo, mask, how}, {kind: "near", of, amount} or {kind: "part", of, part},
// where `of` is a variation, {ask, seed, place: {job, index} on the server, or null}.
// The server forgets jobs, when they are cancelled and after a while. The same seed gives the same codes, so that a
// variation it no longer has is drawn once more before something is made of it.

import { ApiError } from "./api.js";
import { maskToPng } from "./png.js";
import { sentence } from "./words.js";

/** Start a job for what is asked, {num_samples, seed, ...} of it: {id, seeds, events}. `sent` hears how much of an upload
    has gone, 0 to 1. */
export async function start(api, ask, draw, sent) {
  if (ask.kind === "fresh") {
    const { photo, mask, how } = ask;
    const fields = { photo: photo.file, mask: await maskToPng(mask), ...sidesOf(photo), ...how, ...draw };
    return api.start("/jobs", fields, sent);
  }
  const { num_samples, seed } = draw;
  return atPlace(api, ask.of, async ({ job, index }) => {
    if (ask.kind === "near") return api.startJson(`/jobs/${job}/near`, { index, amount: ask.amount, num_samples, seed });
    return api.start(`/jobs/${job}/redraw`, { index, part: await maskToPng(ask.part), num_samples, seed }, sent);
  });
}

function sidesOf({ sides }) {
  return Object.fromEntries(Object.entries(sides).map(([side, n]) => [`extend_${side}`, n || undefined]));
}

/** Do something with a variation where the server has it, {job, index}; have it drawn once more when it is gone. */
export async function atPlace(api, variation, act) {
  try {
    if (variation.place) return await act(variation.place);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  variation.place = await again(api, variation);
  return act(variation.place);
}

async function again(api, { ask, seed }) {
  const job = await start(api, ask, { num_samples: 1, seed });
  for await (const [kind, data] of api.events(job.id)) {
    if (kind === "error") throw new ApiError(sentence(data.error), 500);
  }
  return { job: job.id, index: 0 };
}
