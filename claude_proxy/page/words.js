// Numbers and times as people read them.

const LOCALE = "en-GB";
const clock = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(LOCALE, { weekday: "short", day: "numeric", month: "short" });
const month = new Intl.DateTimeFormat(LOCALE, { month: "long", year: "numeric" });
const whole = new Intl.NumberFormat(LOCALE);
const short = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumFractionDigits: 1 });

/** @param {number} usd */
export function money(usd) {
  if (usd === 0 || usd >= 0.995) return `$${usd.toFixed(2)}`;
  return `$${usd.toFixed(usd >= 0.01 ? 3 : 5)}`;
}

/** @param {number} number */
export const count = (number) => whole.format(number);

/** @param {number} number */
export const about = (number) => short.format(number);

/** @param {number} part 0 to 1 */
export const percent = (part) => `${Math.round(part * 100)} %`;

/** @param {number} ms */
export function took(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms);
}

/** Hours and minutes, or days and hours. @param {number} ms */
export function span(ms) {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

/** @param {string} iso */
export function time(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? exact.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

/** @param {string} iso */
export function until(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const at = isToday ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
  return `in ${span(date.getTime() - Date.now())} (${at})`;
}

/** A date without a time, which is nobody's time zone. @param {string} iso */
const local = (iso) => new Date(`${iso}T12:00:00`);

/** @param {string} iso */
export const dayName = (iso) => day.format(local(iso));

/** @param {string} iso */
export const monthName = (iso) => month.format(local(iso));

/** @param {string} name `five_hour` or `seven_day_opus` */
export function windowName(name) {
  const numbers = { one: 1, five: 5, seven: 7, thirty: 30 };
  const found = /^(one|five|seven|thirty)_(hour|day)_?(.*)$/.exec(name);
  if (!found) return name.replaceAll("_", " ");
  const number = numbers[/** @type {keyof typeof numbers} */ (found[1])];
  const unit = number === 1 ? found[2] : `${found[2]}s`;
  return `${number} ${unit}${found[3] ? `, ${found[3].replaceAll("_", " ")}` : ""}`;
}
