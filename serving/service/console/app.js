// The page: the key, the views, the state of the service.

import { Problem, call, forgetKey, hasKey, setKey, takeKey } from "./api.js";
import { $, notice, show } from "./dom.js";
import * as i18n from "./i18n.js";
import * as metrics from "./metrics.js";
import * as other from "./other.js";
import * as people from "./people.js";
import * as products from "./products.js";
import * as recommendations from "./recommendations.js";
import * as rules from "./rules.js";
import * as status from "./status.js";
import * as updates from "./updates.js";

const { t } = i18n;
// What a view reads when it is opened.
const ENTERED = {
  people: null,
  products: products.refresh,
  updates: updates.refresh,
  metrics: metrics.refresh,
  rules: rules.refresh,
};
const VIEWS = Object.keys(ENTERED);
let started = false;

/** Runs something and shows what went wrong. */
async function guarded(work) {
  try {
    notice($("alert"), "");
    return await work();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) askForKey(t("key.wrong"));
    else showProblem(error);
    return undefined;
  }
}

function showProblem(problem) {
  const alert = $("alert");
  const heading = { 0: "problem.connection", 403: "problem.role" }[problem.status] ?? "problem.refused";
  notice(alert, t(heading));
  if (problem.status) {
    const detail = document.createElement("span");
    detail.lang = "en";
    detail.dir = "ltr";
    detail.textContent = problem.message;
    alert.append(" ", detail);
  }
  alert.scrollIntoView({ block: "nearest" });
}

function askForKey(mistake = "") {
  forgetKey();
  status.stop();
  updates.watch(false);
  show($("nav"), false);
  show($("status"), false);
  for (const each of VIEWS) show($(`view-${each}`), false);
  show($("view-key"), true);
  $("key-error").textContent = mistake;
  $("key").setAttribute("aria-invalid", mistake ? "true" : "false");
  $("key").value = "";
  $("key").focus();
}

function showView(focus) {
  const asked = location.hash.slice(1);
  if (!hasKey() || (asked && !VIEWS.includes(asked))) return;
  const view = asked || VIEWS[0];
  for (const each of VIEWS) show($(`view-${each}`), each === view);
  for (const link of $("nav").children) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (focus) {
    $("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  if (ENTERED[view]) guarded(ENTERED[view]);
  updates.watch(view === "updates");
}

async function open() {
  show($("view-key"), false);
  show($("nav"), true);
  show($("status"), true);
  const first = !started;
  if (first) {
    started = true;
    updates.start(guarded);
    metrics.start(guarded);
    rules.start(guarded);
  }
  showView(false);
  status.start();
  if (first) {
    recommendations.start(guarded, other.forget);
    other.start(guarded);
    products.start(guarded, (title) => {
      location.hash = "people";
      return guarded(() => recommendations.search(title));
    });
    await guarded(() => people.start(guarded));
  } else {
    await guarded(() => people.refresh());
  }
}

async function begin() {
  takeKey();
  await i18n.start(() => {
    for (const each of [recommendations, other, people, products, updates, metrics, rules, status]) each.draw();
  });
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#key=")) {
      takeKey();
      open();
    } else showView(true);
  });
  $("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    setKey($("key").value);
    try {
      await call("GET", "users?limit=1");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      askForKey(t({ 0: "problem.connection", 403: "problem.role" }[error.status] ?? "key.wrong"));
      return;
    }
    const opened = open();
    // Not after the first answer: whoever has begun to type by then keeps the focus.
    $("main").focus();
    await opened;
  });
  if (hasKey()) await open();
  else askForKey();
  document.documentElement.dataset.ready = "true";
}

begin();
