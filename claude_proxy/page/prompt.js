// The box to try a prompt in, and its answer as it comes.

import { byId } from "./dom.js";
import { events, problem, reason } from "./stream.js";
import { count, money, took } from "./words.js";

// Comments come every 15 s while a model thinks.
const PATIENCE = 60_000;

export class Prompt {
  /** @type {AbortController | null} */
  #running = null;
  // The request whose cost comes with an overview, and what is said of it so far.
  #awaited = "";
  #told = "";

  /** @param {() => string} key @param {() => void} onAnswer when the service has answered */
  constructor(key, onAnswer) {
    this.key = key;
    this.onAnswer = onAnswer;
    byId("try").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#run();
    });
    byId("prompt").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("try").requestSubmit();
    });
    byId("stop").addEventListener("click", () => this.stop());
  }

  stop() {
    this.#running?.abort();
  }

  /** Adds what it cost, once that is known. @param {any} overview */
  look(overview) {
    const done = overview.requests.find((/** @type {any} */ one) => one.request_id === this.#awaited);
    if (done && done.cost_usd !== null) {
      this.#awaited = "";
      this.#tell(`${this.#told} · ${money(done.cost_usd)}`);
    }
  }

  async #run() {
    if (this.#running) return;
    const running = (this.#running = new AbortController());
    const asked = performance.now();
    this.#begin();
    try {
      const answer = await this.#ask(running.signal);
      if (!answer.ok || !answer.body) throw new Error(await problem(answer));
      this.onAnswer();
      this.#awaited = answer.headers.get("x-request-id") ?? "";
      const usage = await this.#read(answer.body, asked);
      const tokens = usage && `${count(usage.prompt_tokens)} tokens in, ${count(usage.completion_tokens)} out`;
      this.#told = [`Done in ${took(performance.now() - asked)}`, tokens].filter(Boolean).join(" · ");
      this.#tell(this.#told);
    } catch (error) {
      this.#told = running.signal.aborted ? "Stopped" : `It failed: ${reason(error)}`;
      this.#tell(this.#told);
      byId("told").classList.toggle("failed", !running.signal.aborted);
    } finally {
      this.#running = null;
      byId("send").disabled = false;
      byId("stop").disabled = true;
      byId("said").setAttribute("aria-busy", "false");
    }
  }

  #begin() {
    this.#awaited = "";
    byId("answer").hidden = false;
    byId("told").classList.remove("failed");
    byId("thought").hidden = true;
    byId("thinking").replaceChildren();
    byId("said").replaceChildren();
    byId("said").setAttribute("aria-busy", "true");
    byId("send").disabled = true;
    byId("stop").disabled = false;
    this.#tell("Asked …");
    // Where the answer would be out of sight, it gets the window for itself and the question.
    if (byId("answer").getBoundingClientRect().top > innerHeight * 0.7) byId("try-title").scrollIntoView();
  }

  /** @param {AbortSignal} signal */
  #ask(signal) {
    return fetch("/v1/chat/completions", {
      method: "POST",
      headers: { authorization: `Bearer ${this.key()}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: byId("model").value,
        messages: [{ role: "user", content: byId("prompt").value }],
        stream: true,
        stream_options: { include_usage: true },
      }),
      signal,
    });
  }

  /** Returns the usage. @param {ReadableStream<Uint8Array>} body @param {number} asked */
  async #read(body, asked) {
    let usage = null;
    let isFirst = true;
    for await (const data of events(body, PATIENCE)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      const delta = chunk.choices?.[0]?.delta ?? {};
      if (isFirst && (delta.content || delta.reasoning_content)) {
        isFirst = false;
        this.#tell(`First token after ${took(performance.now() - asked)} …`);
      }
      if (delta.reasoning_content) {
        byId("thought").hidden = false;
        append(byId("thinking"), delta.reasoning_content);
      }
      if (delta.content) append(byId("said"), delta.content);
    }
    return usage;
  }

  /** @param {string} words */
  #tell(words) {
    byId("told").textContent = words;
  }
}

/** Keeps the end in sight of who has not scrolled away from it. @param {any} box @param {string} text */
function append(box, text) {
  const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  if (box.lastChild instanceof Text) box.lastChild.appendData(text);
  else box.append(text);
  if (isAtEnd) box.scrollTop = box.scrollHeight;
}
