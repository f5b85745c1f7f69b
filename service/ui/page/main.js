// Which page is shown, the key, and light or dark.
import { key, REFUSED } from "./api.js";
import { dream } from "./dream.js";
import { models } from "./models.js";
import { session, sessions } from "./sessions.js";

const view = document.getElementById("view"), status = document.getElementById("status");
const dialog = document.getElementById("key-dialog"), input = document.getElementById("key-input");
let shown = null, quiet = null;
let asked = null, declined = null; // the view for which the key was asked last, and the one for which nobody gave it

function say(text) {
  status.textContent = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => (status.textContent = ""), 8000);
}

async function show() {
  shown?.abort();
  shown = new AbortController();
  if (dialog.open) asked = shown;
  const { signal } = shown;
  const [path, query = ""] = (location.hash.slice(2) || "sessions").split("?");
  const [name, id] = path.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.replaceChildren();
  status.textContent = ""; // it is of the view before
  document.title = `THICK: ${name}`;
  try {
    if (name === "sessions" && id) session(view, say, signal, id);
    else if (name === "dream") await dream(view, say, signal, new URLSearchParams(query));
    else if (name === "models") await models(view, say, signal);
    else sessions(view, say, signal);
  } catch (error) {
    if (!signal.aborted) say(error.message);
  }
}

function askForKey() {
  asked = shown;
  input.value = key.get();
  dialog.returnValue = "";
  dialog.showModal();
}

document.getElementById("key").addEventListener("click", askForKey);
document.addEventListener(REFUSED, () => {
  if (!dialog.open && declined !== shown) askForKey(); // who has none is asked once a view, however often it asks
});
dialog.addEventListener("close", () => {
  if (dialog.returnValue !== "save") {
    declined = asked; // which may be the view before: this is told a moment after the dialog is gone
    return;
  }
  key.set(input.value.trim());
  show();
});

const THEME = "thick-theme", root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => (root.dataset.theme = localStorage.getItem(THEME) ?? (dark.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem(THEME, root.dataset.theme === "dark" ? "light" : "dark");
  paint();
});
dark.addEventListener("change", paint);
paint();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // addresses with # are pages here
  view.focus();
});
addEventListener("hashchange", show);
show();
