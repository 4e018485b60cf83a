// The languages that a menu offers for texts and people.

import { make } from "./dom.js";
import { language, nameOf } from "./i18n.js";

const LANGUAGES = (
  "ar bn cs da de el en es fa fi fr he hi hu id it ja ko ms nl no pl pt ro ru sv sw ta th tr uk ur vi zh"
).split(" ");

/** Fills a menu, in the order of the interface's language; what was chosen stays chosen. */
export function fillLanguages(menu) {
  const chosen = menu.value || language();
  const names = [...new Set([...LANGUAGES, chosen])].map((tag) => [tag, nameOf(tag)]);
  names.sort((one, other) => one[1].localeCompare(other[1], language()));
  menu.replaceChildren(...names.map(([tag, name]) => make("option", { value: tag }, name)));
  menu.value = chosen;
}
