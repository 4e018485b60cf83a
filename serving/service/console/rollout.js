// One roll-out: where it is, what its comparison says, why it was decided, and the report of the gate.

import { interval, reachOf, sideOf, steps } from "./charts.js";
import { checks } from "./checks.js";
import { make } from "./dom.js";
import { has, number, percent, signed, stamp, t } from "./i18n.js";

const DECIDED = /^(promoted|rolled_back):/;

/** The elements of a roll-out. */
export function card(rollout, entries, decide) {
  // Once it has ended only the log says what was decided.
  const decision = entries.find((entry) => DECIDED.test(entry.detail));
  const outcome = rollout.state === "ended" && decision ? DECIDED.exec(decision.detail)[1] : rollout.state;
  const until = rollout.state === "ended" ? (decision?.timestamp ?? rollout.changed) : rollout.changed;
  const title = `rollout-${rollout.number}`;
  return make(
    "article",
    { class: "card rollout", "aria-labelledby": title },
    make(
      "div",
      { class: "top" },
      make("h2", { id: title }, titleOf(rollout)),
      make("span", { class: `tag state ${outcome}` }, t(`state.${outcome}`)),
      rollout.state === "ended" && outcome !== "ended" ? make("span", { class: "tag" }, t("state.ended")) : null,
      make("span", { class: "hint" }, t("rollout.begun", { number: rollout.number, time: stamp(rollout.begun) })),
      make("span", { class: "hint", dir: "auto" }, rollout.model),
    ),
    rollout.reason ? reasonOf(rollout, entries) : null,
    buttons(rollout, decide),
    make("div", { class: "columns halves" }, shares(rollout, outcome, until), comparison(rollout)),
    gate(rollout),
    entries.length ? make("details", { class: "log" }, summary("log", t("rollout.log")), logOf(entries)) : null,
  );
}

const titleOf = ({ stable, canary }) => t("rollout.title", { stable: String(stable), canary: String(canary) });

/** Why it is as it is: a sentence of the service, or in any language of somebody who has decided. */
function reasonOf(rollout, entries) {
  const last = entries.find((entry) => entry.action === "change rollout" && !entry.detail.startsWith("ended:"));
  if (last?.actor === "service") return english(rollout.reason, "p", "reason");
  return make("p", { class: "reason", dir: "auto" }, rollout.reason);
}

/** A sentence of the service or of the trainer. */
const english = (value, tag, kind) => make(tag, { class: kind, lang: "en", dir: "ltr" }, value);

const summary = (name, value) => make("summary", { "data-keep": name }, value);

function buttons(rollout, decide) {
  const button = (verdict, name, kind) =>
    make(
      "button",
      { type: "button", class: `small ${kind}`, "data-keep": verdict, onclick: () => decide(rollout, verdict) },
      t(name),
    );
  const open = ["waiting", "running"].includes(rollout.state);
  if (!open && rollout.state !== "promoted") return null;
  return make(
    "div",
    { class: "row" },
    open ? button("promote", "promote.ask", "") : null,
    button("rollback", "back.ask", "danger"),
  );
}

function shares(rollout, outcome, changed) {
  const { stages } = rollout;
  const section = make("section", {}, make("h3", {}, t("share.title")));
  if (!stages.length) {
    section.append(make("p", { class: "empty" }, t("share.none")));
    return section;
  }
  const open = rollout.state === "running";
  const last = open ? stages.at(-1).share : outcome === "promoted" ? 1 : 0;
  const seen = open ? Math.max(rollout.looked, rollout.figures.at ?? 0) : changed;
  const until = Math.max(seen, stages.at(-1).since);
  section.append(
    steps(stages, until, last),
    make(
      "ol",
      { class: "stages" },
      ...stages.map(({ share, since }) =>
        make("li", {}, t("share.since", { share: percent(share), time: stamp(since) })),
      ),
    ),
  );
  return section;
}

function comparison(rollout) {
  const { figures } = rollout;
  const section = make("section", {}, make("h3", {}, t("lift.title")));
  if (figures.at === undefined) {
    section.append(make("p", { class: "empty" }, t("lift.none")));
    return section;
  }
  const lifts = Object.entries(figures.lift);
  if (lifts.length) section.append(liftTable(lifts));
  else section.append(make("p", { class: "empty" }, t("lift.few")));
  section.append(
    make(
      "p",
      { class: "hint" },
      [
        t("lift.people", { stable: number(figures.people.stable), canary: number(figures.people.canary) }),
        t("lift.answers", { count: figures.answers }),
        figures.failures ? t("lift.failures", { count: figures.failures }) : "",
        stamp(figures.at),
      ]
        .filter(Boolean)
        .join(" · "),
    ),
  );
  return section;
}

function liftTable(lifts) {
  const reach = reachOf(lifts.map(([, figure]) => figure));
  return make(
    "table",
    { class: "lifts" },
    make("caption", { class: "hint" }, t("lift.help")),
    make(
      "thead",
      { class: "unseen" },
      make(
        "tr",
        {},
        ...["column.measure", "column.lift", "column.picture"].map((key) => make("th", { scope: "col" }, t(key))),
      ),
    ),
    make(
      "tbody",
      {},
      ...lifts.map(([name, figure]) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, has(`metric.${name}`) ? t(`metric.${name}`) : name),
          make(
            "td",
            {},
            make("strong", {}, signed(figure.value)),
            make("div", { class: "hint" }, t("interval", { low: signed(figure.low), high: signed(figure.high) })),
          ),
          make(
            "td",
            {},
            interval(figure, reach),
            make("span", { class: `verdict ${sideOf(figure)}` }, t(`lift.${sideOf(figure)}`)),
          ),
        ),
      ),
    ),
  );
}

function gate(rollout) {
  const { report } = rollout;
  if (!Object.keys(report).length) return null;
  const found = report.gate;
  const known = Array.isArray(found?.checks);
  return make(
    "details",
    { class: "gate" },
    summary("gate", known ? t(found.promoted ? "gate.passed" : "gate.refused") : t("gate.report")),
    report.sentence ? english(report.sentence, "p", "sentence") : null,
    known
      ? make(
          "p",
          { class: "hint" },
          [
            report.update ? t("gate.update", { update: report.update }) : "",
            t("gate.people", { count: found.people }),
            t("gate.positives", { count: found.positives }),
          ]
            .filter(Boolean)
            .join(" · "),
        )
      : english(JSON.stringify(report, null, 2), "pre", "raw"),
    known && found.checks.length ? checks(found.checks, `${t("gate.checks")} · ${titleOf(rollout)}`) : null,
  );
}

function logOf(entries) {
  return make(
    "ol",
    { class: "entries" },
    ...entries.map((entry) =>
      make(
        "li",
        {},
        make("span", { class: "hint" }, stamp(entry.timestamp)),
        " ",
        make("strong", { dir: "auto" }, entry.actor),
        " ",
        english(`${entry.action}: ${entry.detail}`, "span", ""),
      ),
    ),
  );
}
