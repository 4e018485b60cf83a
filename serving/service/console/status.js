// The state of the service, in one line.

import { call } from "./api.js";
import { $ } from "./dom.js";
import { t } from "./i18n.js";

const MILLISECONDS = 3000;
let timer;
let found;

/** Asks now, and from time to time while the page is seen. */
export function start() {
  stop();
  look();
  timer = setInterval(() => document.hidden || look(), MILLISECONDS);
}

export const stop = () => clearInterval(timer);

/** Asks for the state. */
export async function look() {
  try {
    found = await call("GET", "status");
  } catch {
    found = null;
  }
  draw();
}

/** Shows what was found. */
export function draw() {
  if (found === undefined) return;
  $("light").dataset.state = found === null ? "gone" : found.degraded ? "degraded" : "good";
  if (found === null) {
    $("state").textContent = t("status.gone");
    return;
  }
  const parts = [
    found.degraded ? t("status.degraded") : t("status.version", { version: String(found.model_version) }),
    t("status.items", { count: found.items }),
    found.waiting_items ? t("status.waiting", { count: found.waiting_items }) : t("status.current"),
  ];
  $("state").textContent = parts.join(" · ");
}
