// What a person would get in another language, next to what they get.

import { sideBySide } from "./answers.js";
import { $, announce, show } from "./dom.js";
import { nameOf, t } from "./i18n.js";
import { fillLanguages } from "./languages.js";
import * as recommendations from "./recommendations.js";

let found = null;

/** Listens to the form. */
export function start(guarded) {
  $("other").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(compare);
  });
  draw();
}

/** Another answer is shown: what was compared with it is of no use. */
export function forget() {
  found = null;
  drawLists();
}

async function compare() {
  const before = recommendations.shown();
  if (before === null) return;
  const language = $("other-language").value;
  const only = $("other-only").checked;
  const answer = await recommendations.request({ language, languages: only ? [language] : [] });
  // Somebody else may have been chosen meanwhile.
  if (recommendations.shown() !== before) return;
  found = { language, before, after: answer.items };
  drawLists();
  announce(t("results.announced", { count: answer.items.length, title: answer.items[0]?.title ?? "" }));
}

/** Shows all in the present language. */
export function draw() {
  fillLanguages($("other-language"));
  drawLists();
}

function drawLists() {
  show($("other-lists"), found !== null);
  if (found === null) return;
  $("other-after").textContent = t("other.after", { language: nameOf(found.language) });
  show($("other-empty"), !found.after.length);
  sideBySide($("other-before-items"), $("other-after-items"), found.before, found.after);
}
