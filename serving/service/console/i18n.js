// The interface's languages: texts, numbers, times and names of languages.

import { $, make } from "./dom.js";

const NAMES = { en: "English", zh: "中文", es: "Español", ar: "العربية", ko: "한국어" };
const RIGHT_TO_LEFT = new Set(["ar"]);
const STORED = "babelrec.language";

let texts = {};
let locale = "en";
let plurals;
let numbers;

/** The language of the interface. */
export const language = () => locale;

function preferred() {
  const stored = localStorage.getItem(STORED);
  if (stored in NAMES) return stored;
  return navigator.languages.map((each) => each.split("-")[0].toLowerCase()).find((each) => each in NAMES) ?? "en";
}

async function load(code) {
  const response = await fetch(new URL(`languages/${code}.json`, import.meta.url));
  if (!response.ok) throw new Error(`languages/${code}.json: ${response.status}`);
  texts = await response.json();
  locale = code;
  plurals = new Intl.PluralRules(code);
  numbers = new Intl.NumberFormat(code, { maximumFractionDigits: 2 });
  document.documentElement.lang = code;
  document.documentElement.dir = RIGHT_TO_LEFT.has(code) ? "rtl" : "ltr";
  translate();
}

function translate() {
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.placeholder = t(element.dataset.placeholder);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
  document.title = t("title");
}

/** A text of the interface. Of several forms the one for `values.count`; texts in it keep their own direction. */
export function t(key, values = {}) {
  let found = texts[key];
  if (found === undefined) throw new Error(`no text ${key} in ${locale}`);
  if (typeof found === "object") found = found[plurals.select(values.count)] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : `\u2068${value}\u2069`;
  });
}

/** Texts one after the other. */
export const sentences = (...parts) => parts.join(locale === "zh" ? "" : " ");

/** Whether there is such a text. */
export const has = (key) => key in texts;

/** A number as it is written in the language. */
export const number = (value) => numbers.format(value);

/** A number with so many digits after the point. */
export const decimal = (value, digits) =>
  new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** A share as a percentage, with so many digits after the point at most. */
export const percent = (value, digits = 0) =>
  new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: digits }).format(value);

/** A change as a percentage with its sign. */
export const signed = (value) =>
  new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" }).format(
    value,
  );

/** A date and time, from unix seconds. */
export const stamp = (seconds) =>
  new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(seconds * 1000);

/** A day without its year, from one like "2026-11-30". */
export const day = (value) =>
  new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", timeZone: "UTC" }).format(
    new Date(`${value}T00:00Z`),
  );

/** A moment, from unix seconds. */
export function moment(seconds) {
  const age = Date.now() / 1000 - seconds;
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  if (age < 60) return relative.format(-Math.max(0, Math.round(age)), "second");
  if (age < 3600) return relative.format(-Math.round(age / 60), "minute");
  if (age < 86400) return relative.format(-Math.round(age / 3600), "hour");
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(seconds * 1000);
}

/** What a language is called, by its BCP 47 tag. */
export function nameOf(tag) {
  try {
    return new Intl.DisplayNames(locale, { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

/** Shows the language of the browser, and a menu of the others; `changed` is called after each change. */
export async function start(changed) {
  const menu = $("language");
  for (const [code, name] of Object.entries(NAMES)) menu.append(make("option", { value: code, lang: code }, name));
  await load(preferred());
  menu.value = locale;
  menu.addEventListener("change", async () => {
    localStorage.setItem(STORED, menu.value);
    await load(menu.value);
    changed();
  });
}
