// Small things that make pages pleasant; every page can be read without them.
"use strict";

const root = document.documentElement;

// Times in the reader's words: "3 min ago", with the exact time behind it.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
function ago(seconds) {
  if (seconds < -5) return "in " + lasting(-seconds);
  return seconds < 5 ? "just now" : lasting(seconds) + " ago";
}
function lasting(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return Math.floor(seconds / size) + " " + unit;
  }
  return Math.floor(seconds) + " s";
}
function tellTimes() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    element.title = exact.format(at);
    const text = element.hasAttribute("data-exact") ? exact.format(at) : ago((now - at) / 1000);
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of document.querySelectorAll("[data-since]")) {
    const text = lasting((now - new Date(element.dataset.since)) / 1000);
    if (element.textContent !== text) element.textContent = text;
  }
}

// Parts of a page that need a script say which: data-part="name"; each is drawn again after the page has changed.
const parts = {};
function part(name, draw) {
  parts[name] = draw;
}
function drawParts() {
  for (const element of document.querySelectorAll("[data-part]")) parts[element.dataset.part]?.(element);
}
function refresh() {
  tellTimes();
  drawParts();
}

const theme = document.getElementById("theme");
function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function tellTheme() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
}
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept, then */ }
  tellTheme();
  drawParts();
});
tellTheme();

// What a page shows is live or it says that it is not.
const stream = document.getElementById("stream");
if (document.querySelector("[data-live]")) {
  const tell = (text) => { stream.textContent = text; };
  document.body.addEventListener("htmx:sse:after:connection", () => tell("· live"));
  for (const kind of ["htmx:sse:error", "htmx:sse:close"]) {
    document.body.addEventListener(kind, () => tell("· not live: the server does not answer"));
  }
}

// An element of a picture.
function svg(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

window.headrace = { part, refresh, svg };
document.addEventListener("DOMContentLoaded", refresh);
document.addEventListener("htmx:after:swap", refresh);
setInterval(tellTimes, 1000);
