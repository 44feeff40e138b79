// The overview as it changes, over a connection that is made again when it breaks.

import { events, problem, reason, within } from "./stream.js";

// It says something every 15 s; a start by systemd takes a few.
const PATIENCE = 40_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/**
 * @typedef {"connecting" | "live" | "lost" | "locked" | "idle" | "stopped"} State
 * `idle`, `stopped`: it said that it ends. Asking again would start it, so a person has to.
 */

export class Watch {
  #abort = new AbortController();

  /**
   * @param {string} key
   * @param {(overview: any) => void} onOverview
   * @param {(state: State, why: string) => void} onState
   */
  constructor(key, onOverview, onState) {
    this.key = key;
    this.onOverview = onOverview;
    this.onState = onState;
  }

  stop() {
    this.#abort.abort();
  }

  async run() {
    this.onState("connecting", "");
    for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
      try {
        for await (const overview of this.#overviews()) {
          if (this.#abort.signal.aborted) return;
          pause = FIRST_PAUSE;
          this.onOverview(overview);
          this.onState(overview.ending ?? "live", "");
          if (overview.ending) return;
        }
        this.#lost("it ended");
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        if (error instanceof Locked) return this.onState("locked", error.message);
        if (error instanceof Refused) return this.onState("stopped", error.message);
        this.#lost(error instanceof TypeError ? "it cannot be reached" : reason(error));
      }
      await this.#pause(pause * (0.75 + Math.random() / 2));
      if (this.#abort.signal.aborted) return;
    }
  }

  async *#overviews() {
    const attempt = new AbortController();
    const giveUp = () => attempt.abort();
    this.#abort.signal.addEventListener("abort", giveUp, { once: true });
    try {
      const headers = { authorization: `Bearer ${this.key}`, accept: "text/event-stream" };
      const asked = fetch("/v1/overview", { headers, signal: attempt.signal, cache: "no-store" });
      const answer = await within(asked, PATIENCE);
      if (answer.status === 401) throw new Locked(await problem(answer));
      // It cannot start, and asking again would only let it try again.
      if (answer.headers.get("x-should-retry") === "false") throw new Refused(await problem(answer));
      if (!answer.ok || !answer.body) throw new Error(await problem(answer));
      for await (const data of events(answer.body, PATIENCE)) yield JSON.parse(data);
    } finally {
      attempt.abort();
      this.#abort.signal.removeEventListener("abort", giveUp);
    }
  }

  /** @param {string} why */
  #lost(why) {
    this.onState("lost", why);
  }

  /** At once when the network, or the person, is back. @param {number} ms */
  #pause(ms) {
    return new Promise((resolve) => {
      const over = () => {
        clearTimeout(timer);
        removeEventListener("online", over);
        this.#abort.signal.removeEventListener("abort", over);
        resolve(undefined);
      };
      const timer = setTimeout(over, ms);
      addEventListener("online", over);
      this.#abort.signal.addEventListener("abort", over);
    });
  }
}

class Locked extends Error {}

class Refused extends Error {}

