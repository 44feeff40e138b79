// Elements out of text. Nothing here, or anywhere on this page, reads text as markup.

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes `null` and `false` leave one out
 * @param {(Node | string)[]} children
 */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export const el = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 */
export const svg = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

/**
 * Calls `draw` only with what is not what it was called with last, so that what is selected or
 * focused stays so.
 * @template Value
 * @param {(value: Value) => void} draw
 */
export function whenChanged(draw) {
  let last = "";
  return (/** @type {Value} */ value) => {
    const now = JSON.stringify(value);
    if (now !== last) {
      last = now;
      draw(value);
    }
  };
}

/**
 * Puts others in the place of what is there; what had the focus has it afterwards, if its `id` or
 * its `data-key` is there again.
 * @param {any} place
 * @param {...Node} children
 */
export function replace(place, ...children) {
  const focused = /** @type {any} */ (document.activeElement);
  const key = place.contains(focused) ? focused.id || focused.dataset.key : "";
  place.replaceChildren(...children);
  for (const one of key ? place.querySelectorAll("[id], [data-key]") : []) {
    if (key === (one.id || one.dataset.key)) one.focus();
  }
}

/**
 * A button that copies, and says so.
 * @param {() => string} text
 * @param {Element} shown what is selected where the browser does not let a page copy
 * @param {string} what
 * @param {string} [key]
 */
export function copyButton(text, shown, what, key) {
  const attributes = { type: "button", class: "plain", "aria-label": `Copy ${what}`, "data-key": key ?? null };
  const button = el("button", attributes, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(shown);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2500);
  });
  return button;
}
