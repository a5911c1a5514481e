// Whether the data are broken: what was found, and the missing, unseen and odd values of each feature.

import {lineChart} from "../charts/line.js";
import {columnsOf, gapOf, reportsOf} from "../data.js";
import {h} from "../dom.js";
import {count, duration, number, plural, share, words} from "../format.js";
import {linkTo} from "../state.js";
import {card, missing, ofReport, pill, stat, stats, table, whatIsMissing} from "../ui.js";

export async function view(context) {
  const [report, items] = await reportsOf("drift", context);
  const quality = report.data_quality;
  if (!quality || quality.status === "insufficient_data") return [whatIsMissing(report, "the data"), overTime(items, context)];
  const found = quality.findings;
  const kinds = new Set(found.map(({kind}) => kind));
  return [
    card("Is the input sound?", {wide: true, level: found.length ? "warn" : "ok", note: ofReport(report)},
      h("p", {class: "verdict"}, found.length ? `${plural(found.length, "finding")}` : "Yes: nothing is broken"),
      stats(stat("Findings", count(found.length), {sub: [[...kinds].map(words).join(", ") || "none"]}), stat("Rows looked at", count(report.window.rows), {sub: [`of about ${count(report.window.sampled_from)}`]}),
        stat("Columns not compared", count((report.errors ?? []).length), {sub: [report.errors?.[0]?.reason ?? "none"]}))),
    h("div", {class: "columns two"}, findings(found, report), overTime(items, context), values(report)),
  ];
}

const DURATIONS = ["freshness"];
const amount = ({kind}, value) => (value == null ? "–" : DURATIONS.includes(kind) ? duration(value) : value >= 0 && value <= 1 ? share(value) : number(value));

function findings(found, report) {
  if (!found.length) return card("Findings", {wide: true}, missing("No findings", "Missing, out of range, unseen, constant, repeated and late values are within their limits."));
  const rows = found.map((each, place) => ({key: `${place}`, cells: [each.feature === null ? "all rows" : h("a", {href: linkTo("drift", {feature: each.feature})}, each.feature), pill("warn", words(each.kind)), amount(each, each.value), amount(each, each.limit), each.message]}));
  return card("Findings", {wide: true, note: ofReport(report)}, table("Findings", ["feature", "kind", {text: "value", n: true}, {text: "limit", n: true}, "what"], rows));
}

function overTime(items, context) {
  const points = items.map((item) => ({t: item.t, v: item.findings ?? null, note: item.rows == null ? "" : `${count(item.rows)} rows`}));
  if (!points.some(({v}) => v != null)) return card("Over time", {}, missing("No checks", `No check ran in ${context.range.label}.`));
  return card("Over time", {}, lineChart({title: "Findings of each check", from: context.range.from, to: context.range.to, gap: gapOf(items), domain: [0, Math.max(4, ...points.map(({v}) => v ?? 0)) * 1.1],
    series: [{name: "findings", kind: "now", steps: true, points}]}));
}

function values(report) {
  const rows = columnsOf(report).filter(({current, isAnswer}) => current && !isAnswer).map(({name, type, current, reference}) => {
    const total = [...current.histogram.counts, current.histogram.other ?? 0, current.histogram.unseen ?? 0, current.histogram.missing ?? 0].reduce((sum, value) => sum + value, 0) || 1;
    return {key: name, cells: [h("a", {href: linkTo("drift", {feature: name})}, name), type, share(current.missing_share), share(reference.missing_share), current.histogram.unseen == null ? "–" : share(current.histogram.unseen / total)]};
  });
  return card("Values of each feature", {note: ofReport(report)}, table("Values of each feature", ["feature", "type", {text: "missing now", n: true}, {text: "in the reference", n: true}, {text: "unseen now", n: true}], rows, {sticky: true}));
}
