// The dialogue that asks for the server's token.

import { tell } from "./words.js";

/** Ask for a token; resolves to it, or to null when the user would rather not. */
export function askToken(refused) {
  const dialog = document.getElementById("token");
  const input = document.getElementById("token-text");
  const error = document.getElementById("token-error");
  tell(error, refused ? "That token is not the server's. Look at where it was started." : "");
  input.value = "";
  return new Promise((resolve) => {
    const finish = (token) => {
      resolve(token);
      dialog.close();
    };
    document.getElementById("token-cancel").onclick = () => finish(null);
    document.getElementById("token-form").onsubmit = (event) => {
      event.preventDefault();
      const token = input.value.trim();
      if (token) finish(token);
      else tell(error, "Type the token first.");
    };
    dialog.onclose = () => resolve(null);
    dialog.showModal();
    input.focus();
  });
}
