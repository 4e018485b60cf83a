// Elements of the page.

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

/** A new element: its properties (`class` and attributes with a dash or by `lang`, `role` too), then its children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Shows or hides an element. */
export function show(element, shown) {
  element.hidden = !shown;
}

/** A text in its own language and direction. */
export function text(value, language, tag = "span", properties = {}) {
  return make(tag, { ...properties, lang: language || undefined, dir: "auto" }, value);
}

const announcer = $("announcer");

/** Lets a screen reader say something, when it has finished what it says. */
export function announce(message) {
  // The same text again is no change.
  announcer.textContent = announcer.textContent === message ? `${message}\u00a0` : message;
}

/** Shows a text until the next one; an empty one hides the element. */
export function notice(element, message) {
  element.textContent = message;
  show(element, Boolean(message));
}

/** Focuses what replaces an element that had the focus, unless the focus has gone elsewhere meanwhile. */
export function refocus(element) {
  if (document.activeElement === document.body) element?.focus({ preventScroll: true });
}

/** Whether things may move. */
export const mayMove = () => !matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Asks whether to do something that can't be undone. */
export const confirmed = async (title, message, action) => (await ask(title, message, action, false, true)) !== null;

/** Asks for the reason of something; null: it is not to be done. */
export const reasoned = (title, message, action, dangerous) => ask(title, message, action, true, dangerous);

function ask(title, message, action, reason, dangerous) {
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = message;
  $("dialog-yes").textContent = action;
  $("dialog-yes").classList.toggle("danger", dangerous);
  show($("dialog-why"), reason);
  $("dialog-reason").required = reason;
  $("dialog-reason").value = "";
  // Not a button that submits: Enter in the reason would press the first of these.
  $("dialog-no").onclick = () => dialog.close("no");
  dialog.returnValue = "no";
  dialog.showModal();
  $(reason ? "dialog-reason" : "dialog-no").focus();
  return new Promise((resolve) => {
    const closed = () => resolve(dialog.returnValue === "yes" ? $("dialog-reason").value.trim() : null);
    dialog.addEventListener("close", closed, { once: true });
  });
}
