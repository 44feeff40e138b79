// The page: a key, a watch, and what is shown of it.

import { clientSettings } from "./clients.js";
import { byId, whenChanged } from "./dom.js";
import { drawSpend } from "./plot.js";
import { Prompt } from "./prompt.js";
import { show } from "./show.js";
import { Watch } from "./watch.js";
import { time } from "./words.js";

const KEY = "claude-proxy key";
const WORDS = {
  connecting: "Connecting …",
  live: "Live",
  lost: "Not connected, it is tried again",
  locked: "Locked",
  idle: "Asleep, as it had nothing to do; any request wakes it",
  stopped: "It does not run",
};

let key = remembered();
/** @type {Watch | null} */
let watch = null;
/** @type {any} */
let latest = null;
let seenAt = "";

const prompt = new Prompt(() => key, () => byId("wake").hidden || begin());
const showClients = clientSettings(() => key);

function remembered() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // a browser that keeps nothing
  }
}

/** @param {string} value */
function remember(value) {
  key = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // It is asked for again after a reload.
  }
}

function begin() {
  watch?.stop();
  watch = new Watch(key, onOverview, onState);
  watch.run();
}

/** @param {any} overview */
function onOverview(overview) {
  latest = overview;
  seenAt = time(new Date().toISOString());
  const wasLocked = !byId("unlock").hidden;
  byId("unlock").hidden = true;
  byId("overview").hidden = false;
  byId("forget").hidden = false;
  show(overview);
  redraw();
  prompt.look(overview);
  showClients(overview.models);
  if (wasLocked) byId("main").focus({ preventScroll: true });
}

/** @param {import("./watch.js").State} state @param {string} why */
function onState(state, why) {
  const shown = byId("state");
  shown.dataset.kind = state;
  const isStale = latest && ["lost", "idle", "stopped"].includes(state);
  const seen = isStale ? ` (shown as of ${seenAt})` : "";
  const words = `${WORDS[state]}${why && state !== "locked" ? `: ${why}` : ""}${seen}`;
  if (shown.textContent !== words) shown.textContent = words;
  byId("wake").hidden = state !== "idle" && state !== "stopped";
  byId("wake").textContent = state === "idle" ? "Wake it" : "Connect again";
  if (state === "locked") lock(why);
}

/** @param {string} why */
function lock(why) {
  watch?.stop();
  prompt.stop();
  remember("");
  byId("overview").hidden = true;
  byId("forget").hidden = true;
  byId("unlock").hidden = false;
  byId("key-problem").textContent = why;
  byId("key").setAttribute("aria-invalid", String(why !== ""));
  byId("key").value = "";
  byId("key").focus();
}

const spend = whenChanged((/** @type {any} */ { usage, by }) => drawSpend(usage, by));

const chosen = () => /** @type {any} */ (document.querySelector("input[name=by]:checked")).value;

function redraw() {
  if (!latest) return;
  const { days, today, month } = latest.usage;
  const usage = { days, today: { first: today.first }, month: { first: month.first } };
  spend({ usage, by: chosen(), width: byId("plot").clientWidth });
}

byId("unlock").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  remember(byId("key").value.trim());
  byId("key-problem").textContent = "";
  begin();
});
byId("forget").addEventListener("click", () => {
  remember("");
  location.reload(); // nothing of what was shown stays
});
byId("wake").addEventListener("click", () => {
  byId("main").focus({ preventScroll: true });
  begin();
});
for (const radio of document.querySelectorAll("input[name=by]")) radio.addEventListener("change", redraw);
new ResizeObserver(redraw).observe(byId("plot"));
// Times that are told relative to now.
setInterval(() => latest && show(latest), 30_000);

if (key) begin();
else onState("locked", "");
