// Every metric, by outcomes and by estimate, over time and by segment.

import {get} from "../api.js";
import {lineChart} from "../charts/line.js";
import {reliability} from "../charts/reliability.js";
import {gapOf, mainMetric, metricPoints, reportsOf, segmentsOf, span} from "../data.js";
import {h} from "../dom.js";
import {capital, count, duration, moment, number, share, words} from "../format.js";
import {changed, navigate} from "../state.js";
import {card, facts, missing, ofReport, pick, status, table, whatIsMissing} from "../ui.js";
import {verdictOf} from "./overview.js";

export async function view(context) {
  const [report, items] = await reportsOf("performance", context);
  const segment = segmentsOf(report).find(({label}) => label === context.segment);
  const realised = segment ? segment.entry.metrics ?? {} : report.realised?.metrics ?? {};
  const estimated = segment ? estimatedSegment(report, segment.label) : report.estimated?.metrics ?? {};
  const chosen = context.query.get("metric") ?? mainMetric(realised, estimated) ?? "accuracy";
  const pairs = await readPairs(report, context);
  return [
    summary(report),
    h("div", {class: "columns"},
      overTime(items, chosen, report, context),
      metrics(report, realised, estimated, segment),
      segments(report, chosen), confusion(report), calibration(pairs, report), classes(report), business(report), estimate(report), change(report)),
  ];
}

function summary(report) {
  const {realised = {}} = report;
  if (!report.checked_at) return whatIsMissing(report, "performance");
  const {level, text} = verdictOf(report, mainMetric(realised.metrics, report.estimated?.metrics));
  const delay = realised.label_delay_seconds ?? {};
  return card("Is it still right?", {wide: true, level, note: ofReport(report)}, h("p", {class: "verdict"}, text),
    report.message && h("p", {}, `${capital(report.message)}.`),
    facts([
      ["stands on", {realised: "outcomes", estimated: "the estimate", none: "nothing yet"}[report.basis] ?? "outcomes"],
      ["rows with an outcome", realised.labelled == null ? null : `${count(realised.labelled)} of ${count(report.window?.rows)} (${share(realised.coverage)})`],
      ["label delay", delay.p50 == null ? "not known yet" : `half within ${duration(delay.p50)}, 95 % within ${duration(delay.p95)}`],
      ["labels", realised.mature == null ? null : realised.mature ? "complete" : `still coming: complete about ${duration(delay.p95)} after the last row`],
      ["rows from", report.window?.from && moment(report.window.from)], ["to", report.window?.to && moment(report.window.to)],
      ["baseline of", report.baseline && `${count(report.baseline.rows)} reference rows`],
      ["counted without an outcome", realised.absent && `${count(realised.absent.rows)} rows as ${realised.absent.label}`],
    ]),
    realised.unknown_classes && h("p", {class: "advice"}, realised.unknown_classes.message),
    realised.selection?.withheld && h("p", {class: "advice"}, `${realised.selection.withheld.reason}. It needs ${realised.selection.withheld.needs}.`));
}

function overTime(items, name, report, context) {
  const known = [...new Set(items.flatMap((item) => [...Object.keys(item.realised ?? {}), ...Object.keys(item.estimated ?? {})]))];
  const choice = known.length ? pick("Metric", known.map((each) => [each, words(each)]), name, (metric) => navigate(changed({metric}))) : null;
  const graded = report.realised?.metrics?.[name] ?? report.estimated?.metrics?.[name];
  const there = items.some((item) => item.realised?.[name]?.value != null || item.estimated?.[name]?.value != null);
  if (!there) return card("Over time", {wide: true}, choice, missing("No values in this time", `There is no ${words(name)} in ${context.range.label}.`, "A longer time may have some."));
  const coverage = items.map((item) => ({t: item.t, v: item.values.coverage ?? null}));
  return card("Over time", {wide: true}, choice,
    lineChart({
      title: capital(words(name)), height: 240, from: context.range.from, to: context.range.to, marks: context.range.marks, gap: gapOf(items), note: ofReport(report),
      series: [{name: "realised", kind: "now", points: metricPoints(items, "realised", name)}, {name: "estimated", kind: "second", points: metricPoints(items, "estimated", name)}],
      rules: [{name: "limit", value: graded?.limit, kind: "limit"}, {name: "baseline", value: graded?.baseline, kind: "baseline"}].filter(({value}) => value != null)}),
    lineChart({title: "Label coverage", height: 110, show: share, domain: [0, 1], from: context.range.from, to: context.range.to, gap: gapOf(items), series: [{name: "coverage", kind: "quiet", points: coverage}]}));
}

const interval = (metric) => (metric?.low == null && metric?.high == null ? "" : `[${number(metric.low)}, ${number(metric.high)}]`);

function metrics(report, realised, estimated, segment) {
  const names = [...new Set([...Object.keys(realised), ...Object.keys(estimated)])];
  if (!names.length) return card("Metrics", {wide: true}, whatIsMissing(report, "performance"));
  const rows = names.map((name) => {
    const [one, other] = [realised[name], estimated[name]];
    const reason = one?.withheld ? `${one.withheld.reason}; needs ${one.withheld.needs}` : null;
    return {key: name, cells: [h("a", {href: changed({metric: name})}, words(name)), number(one?.value), interval(one), number(other?.value), interval(other), number((one ?? other).baseline), number((one ?? other).limit),
      h("span", {title: reason}, status((one ?? other).status, reason ? "withheld" : undefined))]};
  });
  const rowsOf = segment ? segment.entry.rows : report.window?.rows;
  const labelled = segment ? segment.entry.labelled : report.realised?.labelled;
  const withheld = names.filter((name) => realised[name]?.withheld).map((name) => h("p", {class: "note"}, `${words(name)} is withheld: ${realised[name].withheld.reason}. It needs ${realised[name].withheld.needs}.`));
  const others = segmentsOf(report).map(({label}) => [label, label]);
  const choice = others.length ? [pick("Segment", [["", "all rows"], ...others], segment?.label ?? "", (label) => navigate(changed({segment: label})))] : [];
  return card(segment ? `Metrics of ${segment.label}` : "Metrics", {wide: true, key: "metrics", actions: choice, note: `${count(labelled)} labelled of ${count(rowsOf)} rows · estimate of ${count(report.estimated?.rows)} · ${ofReport(report, null)}`},
    table("Metrics", ["metric", {text: "realised", n: true}, {text: "interval", n: true}, {text: "estimated", n: true}, {text: "interval", n: true}, {text: "baseline", n: true}, {text: "limit", n: true}, "status"], rows), withheld);
}

function estimatedSegment(report, label) {
  return segmentsOf({segments: report.estimated?.segments ?? {}}).find((each) => each.label === label)?.entry.metrics ?? {};
}

function segments(report, name) {
  const found = segmentsOf(report);
  const estimates = new Map(segmentsOf({segments: report.estimated?.segments ?? {}}).map(({label, entry}) => [label, entry]));
  if (!found.length) return card("Segments", {}, missing("No segments", "No segment is configured, or none has enough rows.", "performance.segments names features, or keys of the context."));
  const rows = found.map(({label, entry}) => ({key: label, cells: [h("a", {href: changed({segment: label})}, label), count(entry.rows), count(entry.labelled),
    number(entry.metrics?.[name]?.value), interval(entry.metrics?.[name]), number(estimates.get(label)?.metrics?.[name]?.value), status(entry.status)]}));
  return card("Segments", {wide: found.length > 8, note: `by ${words(name)} · ${ofReport(report)}`, actions: [h("a", {href: changed({segment: null})}, "All rows")]},
    table("Segments", ["segment", {text: "rows", n: true}, {text: "labelled", n: true}, {text: words(name), n: true}, {text: "interval", n: true}, {text: "estimated", n: true}, "status"], rows));
}

function confusion(report) {
  const matrix = report.realised?.confusion_matrix;
  if (!matrix) return null;
  const totals = matrix.counts.map((row) => row.reduce((sum, value) => sum + value, 0));
  const cell = (value, total) => h("span", {}, count(value), h("small", {}, ` ${share(total ? value / total : null)}`));
  const rows = matrix.labels.map((label, place) => [label, ...matrix.counts[place].map((value) => cell(value, totals[place])), count(totals[place])]);
  return card("Confusion matrix", {note: `truth down, answers across · ${count(totals.reduce((sum, value) => sum + value, 0))} rows with an outcome`},
    table("Confusion matrix", ["truth", ...matrix.labels.map((text) => ({text, n: true})), {text: "rows", n: true}], rows));
}

const ROWS = 1000;
let cached = {id: null, pairs: null};

// Probability and truth of the latest labelled rows of the window's time, out of the stored predictions.
async function readPairs(report, context) {
  if (!report.report_id || !report.realised?.confusion_matrix || !report.window?.from) return null;
  if (cached.id === report.report_id) return cached.pairs;
  const schema = context.model?.versions.find(({version}) => version === report.model_version);
  const [from, to] = [Date.parse(report.window.from), Date.parse(report.window.to) + 1];
  const labelled = (report.window.sampled_from ?? report.window.rows) * (report.realised.coverage ?? 1);
  const latest = to - (to - from) * Math.min(1, (0.9 * ROWS) / Math.max(1, labelled));
  const query = {...span({from: latest, to}), model_version: report.model_version, labelled: "true", limit: ROWS};
  const {items} = await get("/predictions", query).catch(() => ({items: []}));
  const positive = schema?.positive_class;
  const pairs = items.filter(({probabilities, outcome}) => probabilities && outcome).map(({probabilities, prediction, outcome}) => {
    const of = positive == null ? prediction : positive;
    return [probabilities[String(of)] ?? 0, String(outcome.outcome) === String(of)];
  });
  cached = {id: report.report_id, pairs};
  return pairs;
}

function calibration(pairs, report) {
  if (pairs === null) return null;
  if (pairs.length < 50) return card("Calibration", {}, missing("Not enough rows", `${count(pairs.length)} rows have a probability and an outcome; 50 are needed.`));
  return card("Calibration", {note: `the latest ${count(pairs.length)} labelled rows of the window's time · calibration error ${number(report.realised.metrics?.calibration_error?.value)}`},
    reliability({title: "Promised and observed", pairs}));
}

function classes(report) {
  const found = Object.entries(report.realised?.classes ?? {});
  if (!found.length) return null;
  const rows = found.map(([name, each]) => [name, count(each.support), `${number(each.precision.value)} ${interval(each.precision)}`, `${number(each.recall.value)} ${interval(each.recall)}`]);
  return card("Classes", {note: ofReport(report, report.realised.labelled)}, table("Classes", ["class", {text: "rows", n: true}, {text: "precision", n: true}, {text: "recall", n: true}], rows));
}

function business(report) {
  const found = report.business;
  if (!found?.value_count) return card("Business value", {}, missing("No values", "No outcome of the window came with a value.", "Send `value` with POST /outcome."));
  const line = (name, each) => [name, count(each.value_count), number(each.value_sum), number(each.value_mean), each.value_mean_low == null ? "" : `[${number(each.value_mean_low)}, ${number(each.value_mean_high)}]`];
  const rows = [line("all", found), ...Object.entries(found.by_prediction ?? {}).map(([name, each]) => line(`answered ${name}`, each))];
  return card("Business value", {note: ofReport(report, found.value_count)}, found.reason && h("p", {class: "note"}, found.reason),
    table("Business value", ["rows", {text: "n", n: true}, {text: "sum", n: true}, {text: "mean", n: true}, {text: "interval", n: true}], rows));
}

function estimate(report) {
  const found = report.estimated;
  if (!found) return null;
  if (!found.method) return card("Estimate without outcomes", {}, missing("No estimate", `${capital(found.reason ?? "there is none yet")}.`));
  const rows = Object.entries(found.comparison?.metrics ?? {}).map(([name, each]) => [words(name), number(each.estimated), `[${number(each.low)}, ${number(each.high)}]`, number(each.realised), each.within == null ? "–" : each.within ? "yes" : "no"]);
  return card("Estimate without outcomes", {note: `${found.method} · ${count(found.rows)} rows`},
    rows.length ? table("Estimate beside outcomes", ["metric", {text: "estimated", n: true}, {text: "band", n: true}, {text: "realised", n: true}, "within"], rows) : null,
    facts([["inputs differ from the reference by AUC", found.shift && number(found.shift.auc)], ["rows where the reference has almost none", found.unseen_region_share == null ? null : share(found.unseen_region_share)],
      ["record", found.track_record && `${count(found.track_record.chunks)} runs of ${count(found.track_record.rows_per_chunk)} rows`]]),
    (found.caveats ?? []).map((text) => h("p", {class: "note"}, `${capital(text)}.`)));
}

function change(report) {
  const found = report.concept_drift;
  if (!found) return null;
  const text = found.change_at ? `The errors changed at ${moment(found.change_at)}, for the ${found.direction ?? "worse"}: from ${number(found.error_before)} to ${number(found.error_now)}.` : `No change in the stream of errors${found.error_now == null ? "" : `; the error is ${number(found.error_now)}`}.`;
  return card("Change of the relation", {note: `${found.method.toUpperCase()} over ${count(found.rows)} labelled rows`}, h("p", {}, text));
}
