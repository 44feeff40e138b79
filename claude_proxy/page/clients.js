// What to tell other programs of this one: a choice of them, and the texts of the chosen one.

import { byId, copyButton, el, replace } from "./dom.js";
import { problem, reason } from "./stream.js";

/** @typedef {{client: string, title: string, where: string, language: string, text: string}} Settings */

/** Asks for them when the models are others, or they could not be had. @param {() => string} key */
export function clientSettings(key) {
  let asked = "";
  return async (/** @type {string[]} */ models) => {
    if (asked === JSON.stringify(models)) return;
    asked = JSON.stringify(models);
    try {
      const headers = { authorization: `Bearer ${key()}` };
      const answer = await fetch("/v1/client_settings", { headers, cache: "no-store" });
      if (!answer.ok) throw new Error(await problem(answer));
      choose((await answer.json()).data);
    } catch (error) {
      asked = "";
      byId("clients").replaceChildren(el("p", { class: "note" }, `They could not be loaded: ${reason(error)}`));
    }
  };
}

/** @param {Settings[]} all */
function choose(all) {
  const titles = new Map(all.map((one) => [one.client, one.title]));
  const chosen = byId("clients").querySelector("select")?.value ?? all[0]?.client;
  const choice = el("select", { id: "client" }, ...[...titles].map(([client, title]) =>
    el("option", { value: client, selected: client === chosen }, title)));
  const texts = el("div", { id: "settings" });
  const draw = () => texts.replaceChildren(...all.filter((one) => one.client === choice.value).map(settings));
  choice.addEventListener("change", draw);
  const advised = el("div", {}, advice(choice.value));
  replace(byId("clients"),
    el("p", { class: "row" }, el("label", { for: "client" }, "For"), choice), texts, advised);
  choice.addEventListener("change", () => advised.replaceChildren(advice(choice.value)));
  draw();
}

/** @param {Settings} one */
function settings(one) {
  const text = el("code", {}, one.text);
  const box = el("pre", { tabindex: 0, role: "region", "aria-label": `${one.title}: ${one.where}` }, text);
  return el("figure", {},
    el("figcaption", {}, el("span", {}, one.where), copyButton(() => one.text, box, `what goes ${one.where}`)), box);
}

/** @param {string} client */
function advice(client) {
  return el("p", { class: "note advice" },
    el("code", {}, `claude-proxy config ${client}`), " prints the same on a terminal, with ", el("code", {}, "--write"),
    " it writes what is a file of its own. The key is in none of it.");
}
