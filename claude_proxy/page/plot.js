// Spend by day: bars, a legend, and the same as a table.

import { byId, el, svg } from "./dom.js";
import { dayName, money, monthName } from "./words.js";

const HEIGHT = 190;
const TOP = 14;
const BOTTOM = 24;
const LEFT = 54;
// So many get a shade of their own.
const SHADES = 4;
const OTHERS = "others";

/**
 * @typedef {{day: string, usd: number, by_model: Record<string, number>,
 *   by_client: Record<string, number>}} Day
 * @typedef {"by_model" | "by_client"} By
 */

/** The names by what they cost in the month, the dearest first. @param {Day[]} days @param {By} by */
export function ranked(days, by) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const day of days) {
    for (const [name, usd] of Object.entries(day[by])) sums.set(name, (sums.get(name) ?? 0) + usd);
  }
  const all = [...sums].sort((one, other) => other[1] - one[1]);
  if (all.length <= SHADES) return all;
  const rest = all.slice(SHADES - 1).reduce((sum, [, usd]) => sum + usd, 0);
  return [...all.slice(0, SHADES - 1), /** @type {[string, number]} */ ([OTHERS, rest])];
}

/** The amounts of one day in that order. @param {Day} day @param {By} by @param {string[]} names */
export function amounts(day, by, names) {
  // A map: a client may be called `constructor`, which every object has.
  const left = new Map(Object.entries(day[by]));
  const known = names.map((name) => {
    const usd = left.get(name) ?? 0;
    left.delete(name);
    return usd;
  });
  // Summed up, and not the day's less the others': that is a little more or less than nothing.
  if (names.at(-1) === OTHERS) known.push([...left.values()].reduce((sum, usd) => sum + usd, known.pop() ?? 0));
  return known;
}

/** A round number of dollars that is not below: a cent at least, as less has no room beside the plot. @param {number} usd */
export function ceiling(usd) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(usd, 0.01)));
  return unit * ([1, 2, 5, 10].find((step) => step * unit >= usd * 0.999) ?? 10);
}

/** @param {{days: Day[], today: {first: string}, month: {first: string}}} usage @param {By} by */
export function drawSpend(usage, by) {
  const names = ranked(usage.days, by);
  byId("spend-title").textContent = `Spend in ${monthName(usage.month.first)}`;
  byId("plot").replaceChildren(plot(usage, by, names.map(([name]) => name)));
  byId("legend").replaceChildren(...names.map(([name, usd], shade) => key(name, usd, shade)));
  byId("days-table").replaceChildren(table(usage.days, by, names.map(([name]) => name)));
}

/** @param {string} name @param {number} usd @param {number} shade */
function key(name, usd, shade) {
  const swatch = svg("svg", { viewBox: "0 0 10 10", class: "swatch", "aria-hidden": "true" });
  swatch.append(svg("rect", { width: 10, height: 10, rx: 2, class: `shade-${shade}` }));
  return el("li", {}, swatch, el("span", { class: "name" }, name), el("span", {}, money(usd)));
}

/** @param {any} usage @param {By} by @param {string[]} names */
function plot(usage, by, names) {
  const first = new Date(`${usage.month.first}T12:00:00`);
  const count = new Date(first.getFullYear(), first.getMonth() + 1, 0).getDate();
  const width = Math.max(220, byId("plot").clientWidth || 640);
  const most = ceiling(Math.max(0, ...usage.days.map((/** @type {Day} */ day) => day.usd)));
  const step = (width - LEFT) / count;
  const scale = (HEIGHT - TOP - BOTTOM) / most;
  const ground = HEIGHT - BOTTOM;
  const drawing = svg("svg", {
    class: "plot", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`,
    role: "img", "aria-label": summary(usage),
  });
  for (const part of [0, 0.5, 1]) {
    const y = ground - part * most * scale;
    drawing.append(svg("line", { x1: LEFT, x2: width, y1: y, y2: y, class: part ? "grid" : "ground" }));
    drawing.append(svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, axis(part * most)));
  }
  const byDay = new Map(usage.days.map((/** @type {Day} */ day) => [day.day, day]));
  for (let number = 1; number <= count; number += 1) {
    const iso = `${usage.month.first.slice(0, 8)}${String(number).padStart(2, "0")}`;
    const x = LEFT + (number - 1) * step;
    const isToday = iso === usage.today.first;
    if (isToday || (number % 7 === 1 && Math.abs(number - Number(usage.today.first.slice(8))) > 2)) {
      const label = { x: x + step / 2, y: HEIGHT - 6, "text-anchor": "middle", class: isToday && "today" };
      drawing.append(svg("text", label, String(number)));
    }
    const day = byDay.get(iso);
    if (day) drawing.append(column(day, by, names, { x, step, scale, ground }));
  }
  return drawing;
}

/**
 * @param {Day} day @param {By} by @param {string[]} names
 * @param {{x: number, step: number, scale: number, ground: number}} place
 */
function column(day, by, names, { x, step, scale, ground }) {
  const gap = Math.min(4, step * 0.2);
  const parts = amounts(day, by, names);
  const told = names.map((name, at) => `${name} ${money(parts[at])}`).filter((_, at) => parts[at] > 0);
  const group = svg("g", { class: "day" });
  group.append(svg("title", {}, `${dayName(day.day)}: ${money(day.usd)} — ${told.join(", ")}`));
  group.append(svg("rect", { x, y: TOP, width: step, height: ground - TOP, class: "hit" }));
  let y = ground;
  parts.forEach((usd, shade) => {
    const height = Math.max(0, usd * scale);
    y -= height;
    if (height > 0) {
      const box = { x: x + gap / 2, y, width: step - gap, height };
      group.append(svg("rect", { ...box, class: `shade-${shade}` }));
    }
  });
  return group;
}

/** @param {number} usd */
const axis = (usd) => (usd === 0 ? "0" : `$${Number(usd.toPrecision(2))}`);

/** @param {any} usage */
function summary(usage) {
  const days = /** @type {Day[]} */ (usage.days);
  if (!days.length) return "Nothing was spent this month.";
  const sum = days.reduce((total, day) => total + day.usd, 0);
  const dearest = days.reduce((one, other) => (other.usd > one.usd ? other : one));
  return `Bars, one a day: ${money(sum)} on ${days.length} ${days.length === 1 ? "day" : "days"}, ` +
    `most on ${dayName(dearest.day)}, ${money(dearest.usd)}. The table below has all of it.`;
}

/** @param {Day[]} days @param {By} by @param {string[]} names */
function table(days, by, names) {
  if (!days.length) return el("p", { class: "note" }, "Nothing was spent this month.");
  const head = ["Day", ...names, "All"].map((name) => el("th", { scope: "col" }, name));
  const rows = days.map((day) =>
    el("tr", {}, el("th", { scope: "row" }, dayName(day.day)),
      ...[...amounts(day, by, names), day.usd].map((usd) => el("td", {}, money(usd)))));
  return el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
}
