// What several views read.

import {get, getIfThere} from "./api.js";

const POINTS = {drift: 60, performance: 120};
const MAIN = ["accuracy", "mae"];

const time = (moment) => new Date(moment).toISOString();

export const span = ({from, to}) => ({from: time(from), to: time(to)});

const known = new Map();

// The reports of a kind over the chosen time, thinned to what a chart can show; read again once there is a later report.
export async function history(kind, context, latestReport) {
  const {range, version} = context;
  const asked = range.live ? range.key : `${range.from} ${range.to}`;
  const key = `${kind} ${version} ${asked}`;
  const before = known.get(key);
  if (before === undefined || before.id !== latestReport.report_id) {
    const found = await get(`/${kind}/history`, {...span(range), points: POINTS[kind], model_version: version, detail: "true"});
    known.set(key, {id: latestReport.report_id, items: found.items.map((item) => ({...item, t: Date.parse(item.checked_at)}))});
  }
  return known.get(key).items.filter(({t}) => t >= range.from);
}

// The latest report of a kind, and those before it.
export async function reportsOf(kind, context) {
  const report = await latest(kind, context);
  return [report, await history(kind, context, report)];
}

// The report that was the latest at the end of the chosen time.
export async function latest(kind, context) {
  if (context.range.live) return get(`/${kind}`, {model_version: context.version});
  const {items} = await get(`/${kind}/history`, {...span(context.range), points: 1, model_version: context.version});
  if (!items.length) return {status: "insufficient_data", report_id: null, checked_at: null, message: "no check ran in the chosen time", errors: []};
  return get(`/reports/${items.at(-1).report_id}`);
}

// Where another version began to answer, as marks of a chart.
export async function marksOf(name, range) {
  const found = await getIfThere(`/models/${encodeURIComponent(name)}/activations`);
  return (found?.items ?? []).map(({at, version, act}) => ({t: Date.parse(at), text: `${act === "rollback" ? "back to " : ""}version ${version}`})).filter(({t}) => t >= range.from && t <= range.to);
}

export const mainMetric = (...found) => MAIN.find((name) => found.some((metrics) => metrics && name in metrics)) ?? Object.keys(found.find(Boolean) ?? {})[0];

// The points of a metric for a line: realised or estimated.
export function metricPoints(items, basis, name) {
  return items.map((item) => {
    const metric = item[basis]?.[name];
    return {t: item.t, v: metric?.value ?? null, low: metric?.low, high: metric?.high, note: item.rows == null ? "" : `${item.rows} rows`};
  });
}

// A line breaks where no check ran for several times the usual pause.
export function gapOf(items) {
  const pauses = items.slice(1).map((item, place) => item.t - items[place].t).sort((one, other) => one - other);
  return pauses.length < 3 ? Infinity : Math.max(5 * pauses[Math.floor(pauses.length / 2)], 60_000);
}

const RANK = {drift: 0, error: 2, stable: 3};

// Columns of a drift report: those that drifted first, then by impact; what the model answered comes after its inputs.
export function columnsOf(drift) {
  const features = Object.entries(drift.features ?? {}).map(([name, entry]) => ({...entry, name, label: name}));
  const {probability, ...prediction} = drift.prediction ?? {};
  const answers = [["prediction", prediction, "the prediction"], ["probability", probability, "the probability"]];
  const named = answers.filter(([, entry]) => entry?.status).map(([name, entry, label]) => ({...entry, name: `(${name})`, label, isAnswer: true}));
  const rank = (entry) => (RANK[entry.status] ?? 1) * 2 + (entry.isAnswer ? 1 : 0);
  return [...features, ...named].sort((one, other) => rank(one) - rank(other) || (other.impact ?? 0) - (one.impact ?? 0));
}

const SEVERITIES = {minor: 2, moderate: 3, severe: 4};

// How dark a cell of the heat map is: 0 below noise, 1 above noise without a verdict of drift, 2 to 4 by severity.
export function levelOf({status, severity, psi, psi_noise_floor: floor}) {
  if (psi == null) return null;
  if (status === "drift") return SEVERITIES[severity] ?? 2;
  return psi > 2 * (floor ?? 0) + 0.01 ? 1 : 0;
}

// Segments of a report as `channel = web`.
export function segmentsOf(report) {
  return Object.entries(report.segments ?? {}).flatMap(([name, each]) =>
    Object.entries(each.values ?? each).filter(([, entry]) => entry && typeof entry === "object").map(([value, entry]) => ({label: `${name} = ${value}`, entry})));
}

// What an alert is called in a headline.
const TITLES = {
  accuracy_drop: "accuracy dropped", mae_drop: "errors have grown", estimated_drop: "performance probably dropped", metrics_drop: "other metrics dropped",
  unknown_class: "outcomes of an unknown class", segment_drop: "a segment is answered badly", drift_check_failing: "nobody watches for drift",
  performance_check_failing: "nobody watches performance", drift_many: "many features drifted", prediction_drift: "predictions drifted",
  joint_drift: "features changed together", data_quality: "broken input", label_coverage: "outcomes stay away", feature_drift: "a feature drifted",
  unjudged_features: "features without a verdict",
};

export const titleOf = (rule) => TITLES[rule] ?? rule.replaceAll("_", " ");

export const isActive = ({state}) => ["firing", "acknowledged"].includes(state);

export const SEVERITY_LEVELS = {critical: "bad", high: "bad", medium: "warn", low: "note"};
