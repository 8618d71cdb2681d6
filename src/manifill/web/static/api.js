// The server's API: requests with the token, refusals as sentences, events one by one.

import { sentence } from "./words.js";

const ROOT = "/api/v1";
const AGAIN = [700, 2000]; // milliseconds before an upload that got no answer is sent again
const KEY = "manifill-token";
const LAST = ["done", "error", "cancelled"];
const RETRIES = 4;

/** A refusal; the message is the server's sentence, `status` 0 where there was no answer at all. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Api {
  /** `ask(refused)` resolves to a token typed by the user, or null. */
  constructor(ask) {
    this.ask = ask;
    this.token = sessionStorage.getItem(KEY);
    this.asking = null;
    this.jobs = new Set(); // those the server may still have
  }

  /** Fetch a path; asks for a token when the server wants one. Throws ApiError. */
  async request(path, options = {}) {
    const token = this.token;
    const response = await this.send(path, options);
    if (response.status === 401 && (token !== this.token || (await this.renew(Boolean(token))))) {
      return this.request(path, options);
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async send(path, { sent, ...options }) {
    const headers = { ...options.headers };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    try {
      if (sent) return await upload(place(path), headers, options.body, sent);
      return await fetch(place(path), { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server did not answer. Is it still running, and is the network there?", 0);
    }
  }

  /** Ask once for all requests that wait; say whether there is a new token. */
  async renew(refused) {
    this.asking ??= this.ask(refused).finally(() => (this.asking = null));
    const token = await this.asking;
    if (!token) return false;
    this.token = token;
    sessionStorage.setItem(KEY, token);
    return true;
  }

  async get(path) {
    return (await this.request(ROOT + path)).json();
  }

  async blob(url, signal) {
    return (await this.request(url, { signal })).blob();
  }

  /** Start a job by a form of files and fields, those undefined left out: {id, seeds, events, warnings}. `sent` hears how much of
      it has gone, 0 to 1. What gets no answer is sent again. */
  async start(path, fields, sent = () => {}) {
    const body = form(fields);
    for (const pause of AGAIN) {
      try {
        return await this.started(path, { body, sent });
      } catch (error) {
        if (error.status !== 0) throw error;
        await new Promise((resume) => setTimeout(resume, pause));
      }
    }
    return this.started(path, { body, sent });
  }

  /** Ask what is the hole in a photo with a mask, or without one: {hole, warnings}, a PNG of the photo's size. */
  async hole(photo, mask) {
    const response = await this.request(`${ROOT}/hole`, { method: "POST", body: form({ photo, mask }) });
    return { hole: await response.blob(), warnings: JSON.parse(response.headers.get("X-Warnings") ?? "[]") };
  }

  async startJson(path, fields) {
    return this.started(path, { headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });
  }

  async started(path, options) {
    const job = await (await this.request(ROOT + path, { method: "POST", ...options })).json();
    this.jobs.add(job.id);
    return job;
  }

  /** Have jobs cancelled and forgotten, all unless some are named; does not wait, and works while the page is left. */
  forget(...ids) {
    for (const id of ids.length ? ids : [...this.jobs]) {
      this.jobs.delete(id);
      this.send(`${ROOT}/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    }
  }

  file(job, name) {
    return this.blob(`${ROOT}/jobs/${job}/${name}`);
  }

  /** Yield the events of a job, [kind, data], until its last; a connection that breaks is taken up again. */
  async *events(job, signal) {
    const url = `${ROOT}/jobs/${job}/events`;
    const seen = new Set();
    for (let left = RETRIES; left > 0; left--) {
      try {
        for await (const [kind, data] of this.stream(url, signal)) {
          const key = `${kind} ${JSON.stringify(data)}`;
          if (seen.has(key)) continue; // a new connection tells everything from the start
          seen.add(key);
          left = RETRIES;
          yield [kind, data];
          if (LAST.includes(kind)) return;
        }
      } catch (error) {
        if (signal?.aborted || error.status > 0 || left === 1) throw error;
      }
      await new Promise((resume) => setTimeout(resume, 700));
    }
    throw new ApiError("The connection to the server broke before everything was drawn.", 0);
  }

  async *stream(url, signal) {
    const response = await this.request(url, { signal, headers: { Accept: "text/event-stream" } });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const blocks = (text + value).split(/\r?\n\r?\n/);
        text = blocks.pop();
        yield* blocks.map(parse).filter(Boolean);
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }
}

/** Return the address of a path of the server, which a proxy may show below a path of its own. */
export function place(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI).href;
}

/** Send a form and hear how much of it has gone, which fetch does not tell. */
function upload(url, headers, body, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => sent(loaded / total);
    request.onload = () => resolve(new Response(request.responseText, request));
    request.onerror = reject;
    request.send(body);
  });
}

/** Return files and fields as a form, those undefined left out. */
function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) body.append(name, value, value.name ?? `${name}.png`);
    else if (value !== undefined) body.append(name, value);
  }
  return body;
}

/** Return [kind, data] of an event's lines, or null of a comment that only keeps the connection open. */
function parse(block) {
  let [kind, data] = ["", ""];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) kind = line.slice(6).trim();
    if (line.startsWith("data:")) data += line.slice(5);
  }
  return kind ? [kind, JSON.parse(data || "{}")] : null;
}

async function refusal(response) {
  let message = `The server answered ${response.status} ${response.statusText}.`;
  try {
    message = sentence((await response.json()).error);
  } catch {
    // no sentence from the server: the status must do
  }
  if (response.status === 401) message = "The server wants a token; nothing was sent. Try again to enter one.";
  return new ApiError(message, response.status);
}
