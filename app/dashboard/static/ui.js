// Parts that every view is made of.

import {h} from "./dom.js";
import {ago, capital, count, moment, words} from "./format.js";

export const pill = (level, text) => h("span", {class: "pill", "data-level": level}, text);

export function card(title, {note, wide = false, level, actions = [], key} = {}, ...children) {
  return h("section", {class: wide ? "card wide" : "card", "data-level": level, "data-key": key ?? title},
    h("header", {}, h("h2", {}, title), note && h("span", {class: "note"}, note), actions.length ? h("div", {class: "actions"}, actions) : null),
    ...children);
}

// A figure with its name, and below what it is of: its interval, its rows, its time.
export function stat(label, value, {sub = [], level, spark, href} = {}) {
  const shown = href ? h("a", {href}, value) : value;
  return h("div", {class: "stat", "data-level": level, "data-key": label}, h("dt", {}, label), h("dd", {}, h("span", {class: "value"}, shown), spark),
    h("dd", {class: "sub"}, [sub].flat().filter(Boolean).map((line) => h("span", {}, line))));
}

export const stats = (...each) => h("dl", {class: "stats"}, each);

export function facts(pairs) {
  return h("dl", {class: "facts"}, pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/* A table that scrolls by itself where it is wider than the page. A cell is text, an element, or {n} for a number;
   the first cell of each row is its head. */
export function table(name, columns, rows, {key, sticky = false} = {}) {
  const heads = columns.map((each) => (typeof each === "string" ? {text: each} : each));
  const cell = (value, place) => h(place === 0 ? "th" : "td", {scope: place === 0 ? "row" : null, class: heads[place].n ? "n" : null}, value);
  return h("div", {class: sticky ? "scroll tall" : "scroll", tabindex: 0, role: "region", "aria-label": name, "data-key": key},
    h("table", {}, h("thead", {}, h("tr", {}, heads.map(({text, n}) => h("th", {scope: "col", class: n ? "n" : null}, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {"data-key": row.key, "data-level": row.level}, (row.cells ?? row).map(cell))))));
}

// Something that is not there: what is missing, and when it will be.
export const missing = (title, what, when = "") => h("div", {class: "missing"}, h("strong", {}, title), h("p", {}, what), when && h("p", {class: "note"}, when));

// The rows and the time of a report, below every card that is about one.
export function ofReport(report, rows = report.window?.rows) {
  if (!report.checked_at) return "no check yet";
  return `${rows == null ? "" : `n = ${count(rows)} · `}checked ${ago(report.checked_at)}, ${moment(report.checked_at)}`;
}

const LEVELS = {ok: "ok", stable: "ok", improved: "ok", degraded: "bad", drift: "warn", warning: "warn", error: "bad", insufficient_data: "idle", no_reference: "idle", withheld: "idle"};

export const levelOfStatus = (status) => LEVELS[status] ?? "idle";

export const status = (name, text) => pill(levelOfStatus(name), text ?? words(name));

// What a report without a verdict is missing, and when that will be there.
export function whatIsMissing(report, subject) {
  const text = report.message ?? report.errors?.[0]?.reason ?? "there is no report yet";
  return missing(`No verdict on ${subject} yet`, `${capital(text)}.`, whenItComes(report));
}

export function whenItComes({window, limits, checked_at: checkedAt}) {
  const [from, to] = [Date.parse(window?.from), Date.parse(window?.to)];
  const need = (limits?.min_rows ?? 0) - (window?.rows ?? 0);
  if (need > 0 && to > from && window.rows > 1) {
    const seconds = (need * (to - from)) / 1000 / window.rows;
    return `${count(need)} more rows are needed; at the present rate they are here in about ${Math.ceil(seconds / 60)} min.`;
  }
  if (new URLSearchParams(location.search).get("range") === "custom") return "Another time may have one.";
  if (!checkedAt) return "The first check runs once rows are stored, within a minute of the fiftieth; or run one now under Overview.";
  return "The next check looks again when new rows have come.";
}

export const bar = (shareOf) => {
  const fill = h("i", {});
  fill.style.width = `${Math.max(0, Math.min(100, 100 * shareOf)).toFixed(1)}%`;
  return h("span", {class: "bar"}, fill);
};

export function pick(label, options, value, onpick) {
  const chosen = h("select", {"aria-label": label, "data-value": value ?? "", onchange: (event) => onpick(event.target.value)},
    options.map(([key, text]) => h("option", {value: key, selected: key === (value ?? "")}, text)));
  return h("label", {class: "pick"}, h("span", {}, label), chosen);
}
