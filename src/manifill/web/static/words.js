// Saying things where they happen.

/** Show an error at its place, or clear it when there is none. */
export function tell(element, message = "") {
  element.hidden = !message;
  element.textContent = message;
}

/** Return an error's words for the user. */
export function words(error) {
  return error.message || String(error);
}

/** Return the server's words, which begin small and end without a full stop, as a sentence. */
export function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
