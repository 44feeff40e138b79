// Each part of the overview in its place.

import { byId, copyButton, el, replace, whenChanged } from "./dom.js";
import { about, count, money, percent, time, took, until, windowName } from "./words.js";

const RUN_LOGIN = "Claude Code is not logged in";

/** @param {any} overview */
export function show(overview) {
  const { service, sessions, usage } = overview;
  // That it ends is told elsewhere, and where it ends for idleness a request would wake it.
  showNotice(overview.ending ? [] : service.reasons);
  showFigures({ sessions, today: usage.today.total, month: usage.month.total });
  showService(service);
  showLimits({ plan: usage.plan, budgets: usage.budgets, minute: Math.floor(Date.now() / 60_000) });
  showRequests(overview.requests);
  showModels({ models: overview.models, preferred: overview.default_model });
}

const showNotice = whenChanged((/** @type {string[]} */ reasons) => {
  const notice = byId("notice");
  notice.hidden = reasons.length === 0;
  const advice = reasons.includes(RUN_LOGIN) ? " Type claude auth login, as this user; claude-proxy check says where claude is." : "";
  notice.textContent = `No request would be answered now: ${reasons.join("; ")}.${advice}`;
});

const showFigures = whenChanged((/** @type {any} */ { sessions, today, month }) => {
  const spent = (/** @type {any} */ figures) => money(figures.usd + figures.estimated_usd);
  const answers = (/** @type {any} */ { answers }) => `${count(answers)} ${answers === 1 ? "answer" : "answers"}`;
  const cached = month.cached_share === null ? "" : `, ${percent(month.cached_share)} of the prompts cached`;
  byId("figures").replaceChildren(
    figure("Today", spent(today), answers(today)),
    figure("This month", spent(month), `${answers(month)}${cached}`),
    figure("Running", count(sessions.running), `of ${count(sessions.most_running)} at a time`),
    figure("Waiting", count(sessions.queued), `of ${count(sessions.most_queued)} in the queue`),
    figure("Conversations", count(sessions.living), `live on; ${count(sessions.spare)} spare ready`),
  );
});

/** @param {string} name @param {string} value @param {string} more */
function figure(name, value, more) {
  return el("div", {}, el("dt", {}, name), el("dd", { class: "value" }, value), el("dd", {}, more));
}

const showService = whenChanged((/** @type {any} */ service) => {
  const login = { true: `Logged in as ${service.login ?? "somebody"}`, false: "Not logged in" };
  const words = [
    login[/** @type {"true" | "false"} */ (String(service.logged_in))] ?? "Login not known yet",
    service.simulated ? "demo: answers are simulated and cost nothing" : "",
  ];
  byId("service").textContent = `${words.filter(Boolean).join("; ")}.`;
  byId("versions").textContent =
    `claude-proxy ${service.version} with Claude Code ${service.claude_version}, ` +
    `up since ${time(service.started_at)}.`;
});

const STATUS = new Map([["allowed", ""], ["allowed_warning", "nearly used up"], ["rejected", "used up"]]);

const showLimits = whenChanged((/** @type {any} */ { plan, budgets }) => {
  const bars = plan.map((/** @type {any} */ window) => {
    const used = window.used ?? (window.status === "rejected" ? 1 : null);
    return bar({
      name: windowName(window.window),
      used,
      value: used === null ? "not told" : percent(used),
      state: STATUS.get(window.status) ?? window.status,
      resets: window.resets_at && `Resets ${until(window.resets_at)}`,
    });
  });
  for (const budget of budgets) {
    bars.push(bar({
      name: `Budget per ${budget.period}${budget.client ? ` of ${budget.client}` : ""}`,
      used: budget.spent_usd / budget.usd,
      value: `${money(budget.spent_usd)} of ${money(budget.usd)}`,
      state: budget.is_spent ? "spent" : "",
      resets: `Begins anew ${until(budget.next_begins)}`,
    }));
  }
  if (!plan.length) {
    const why = "Nothing is known of the plan’s windows: Claude Code tells of them with an answer, under a subscription.";
    bars.push(el("p", { class: "note" }, why));
  }
  byId("limits").replaceChildren(...bars);
});

/** @param {{name: string, used: number | null, value: string, state: string, resets: string}} given */
function bar({ name, used, value, state, resets }) {
  const part = Math.min(1, Math.max(0, used ?? 0));
  const fill = el("span", { class: "fill" });
  fill.style.inlineSize = `${part * 100}%`;
  const track = el("div", {
    class: "track", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(part * 100), "aria-valuetext": [value, state].filter(Boolean).join(", "),
    "data-full": part >= 0.8 || state !== "",
  }, fill);
  return el("div", { class: "limit" },
    el("p", { class: "what" }, el("span", {}, name), el("span", { class: "value" }, value)),
    track,
    el("p", { class: "note" }, [state && `${state[0].toUpperCase()}${state.slice(1)}.`, resets && `${resets}.`]
      .filter(Boolean).join(" ")));
}

const NONE = "—";
const COLUMNS = ["Time", "Client", "Request", "Model", "Outcome", "Took", "First token", "Tokens", "Cost", "Id"];

// So many, unless all are wanted.
const FEW = 10;
let wantsAll = false;

/** @param {any[]} requests */
const showRequests = (requests) => drawRequests({ requests, wantsAll });

const drawRequests = whenChanged((/** @type {{requests: any[], wantsAll: boolean}} */ { requests }) => {
  if (!requests.length) {
    byId("requests").replaceChildren(el("p", { class: "note" }, "None yet, since the start."));
    return;
  }
  // The roles stay where a narrow window makes cards of the rows.
  const head = COLUMNS.map((name) => el("th", { scope: "col", role: "columnheader" }, name));
  const table = el("table", { role: "table", "aria-labelledby": "requests-title" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
    el("tbody", { role: "rowgroup" }, ...requests.slice(0, wantsAll ? undefined : FEW).map(row)));
  replace(byId("requests"), table, ...(requests.length > FEW ? [more(requests)] : []));
});

/** @param {any[]} requests */
function more(requests) {
  const words = wantsAll ? `The last ${FEW} only` : `All ${requests.length}`;
  const button = el("button", { type: "button", id: "more", "aria-expanded": String(wantsAll) }, words);
  button.addEventListener("click", () => {
    wantsAll = !wantsAll;
    showRequests(requests);
  });
  return button;
}

/** @param {any} done */
function row(done) {
  const failed = done.status === 0 || done.status >= 400 || done.error !== null;
  const outcome = [done.status || "gone", done.error ?? done.finish_reason ?? (done.client_gone && "stopped")].filter(Boolean).join(" ");
  const id = el("code", {}, done.request_id);
  const cells = {
    time: el("time", { datetime: done.at }, time(done.at)),
    client: done.client || NONE,
    route: `${done.method} ${done.route}`,
    model: done.model ?? NONE,
    outcome: el("span", { class: failed && "failed" }, outcome),
    took: took(done.duration_ms),
    first: done.ttft_ms === null ? NONE : took(done.ttft_ms),
    tokens: tokens(done),
    cost: done.cost_usd === null ? NONE : money(done.cost_usd),
    id: el("span", {}, id, " ", copyButton(() => done.request_id, id, "the request’s id", done.request_id)),
  };
  return el("tr", { role: "row" }, ...Object.entries(cells).map(([name, value]) =>
    el("td", { role: "cell", class: `c-${name}${value === NONE ? " none" : ""}` }, value)));
}

/** @param {any} done */
function tokens(done) {
  if (done.input_tokens === null) return NONE;
  const cached = done.cached_tokens ? ` (${about(done.cached_tokens)} cached)` : "";
  return `${about(done.input_tokens)}${cached} → ${about(done.output_tokens ?? 0)}`;
}

const showModels = whenChanged((/** @type {any} */ { models, preferred }) => {
  byId("models").replaceChildren(...models.map((/** @type {string} */ name) =>
    el("li", {}, el("code", {}, name), ...(name === preferred ? [el("span", { class: "tag" }, "default")] : []))));
  const choice = byId("model");
  const chosen = choice.value || preferred;
  choice.replaceChildren(...models.map((/** @type {string} */ name) =>
    el("option", { value: name, selected: name === chosen }, name)));
});

