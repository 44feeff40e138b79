// Server-sent events by fetch, which can send a key, as EventSource cannot.

/** Something that took too long. */
export class Silence extends Error {}

/**
 * @template Value
 * @param {Promise<Value>} promise
 * @param {number} ms
 * @returns {Promise<Value>}
 */
export async function within(promise, ms) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Silence(`nothing came for ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The data of each event. Raises Silence when no byte comes for so long; comments are bytes.
 * @param {ReadableStream<Uint8Array>} body
 * @param {number} patience in milliseconds
 */
export async function* events(body, patience) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let left = "";
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), patience);
      if (done) return;
      const frames = (left + decoder.decode(value, { stream: true })).split("\n\n");
      left = frames.pop() ?? "";
      for (const frame of frames) {
        const data = frame.split("\n").filter((line) => line.startsWith("data:"));
        if (data.length) yield data.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {unknown} error */
export const reason = (error) => (error instanceof Error ? error.message : String(error));

/**
 * What an answer that is an error says, in words.
 * @param {Response} answer
 */
export async function problem(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `HTTP ${answer.status}`;
  }
}
