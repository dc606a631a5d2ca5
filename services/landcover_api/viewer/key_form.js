/** The field for an API key, which is there when something needed one, or another. */

import { keepKey } from "./key.js";

const form = /** @type {HTMLFormElement} */ (document.querySelector("#key"));
const input = /** @type {HTMLInputElement} */ (document.querySelector("#key-input"));

addEventListener("keyneeded", () => (form.hidden = false));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(input.value);
  input.value = "";
  form.hidden = true;
  dispatchEvent(new Event("keygiven"));
});
