// The figures of /metrics: what this replica has done since it started, and while the page is open.

import {getText, Refused} from "./api.js";

const LINE = /^(ml_\w+)(?:\{(.*)\})? (\S+)$/;
const MOST = 720;
const seen = [];

export async function readMetrics() {
  let text;
  try {
    text = await getText("/metrics");
  } catch (error) {
    if (error instanceof Refused && [401, 403].includes(error.status)) return null;
    throw error;
  }
  const series = [];
  for (const line of text.split("\n")) {
    const [, name, labels, value] = LINE.exec(line) ?? [];
    if (name) series.push({name, labels: labelsOf(labels ?? ""), value: Number(value)});
  }
  return series;
}

function labelsOf(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) found[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
  return found;
}

// Buckets of a histogram of one version, as [bound, count so far].
export function bucketsOf(series, name, version) {
  return series.filter((each) => each.name === `${name}_bucket` && each.labels.model_version === version)
    .map(({labels, value}) => [Number(labels.le.replace("+Inf", "Infinity")), value]).sort(([one], [other]) => one - other);
}

// The smallest bound within which a share of the requests stayed.
export function quantile(buckets, part) {
  const total = buckets.at(-1)?.[1] ?? 0;
  return total > 0 ? buckets.find(([, count]) => count >= part * total)[0] : null;
}

export function sum(series, name, wanted = {}) {
  return series.filter((each) => each.name === name && Object.entries(wanted).every(([key, value]) => each.labels[key] === value)).reduce((total, {value}) => total + value, 0);
}

// Remembers one look while the page is open, and gives the rates between looks.
export function remember(series, version, t) {
  const statuses = ["ok", "failed", "refused", "replayed"];
  const counts = Object.fromEntries(statuses.map((status) => [status, sum(series, "ml_predictions_total", {status, model_version: version})]));
  seen.push({t, version, counts, buckets: bucketsOf(series, "ml_prediction_latency_seconds", version)});
  if (seen.length > MOST) seen.shift();
  const looks = seen.filter((each) => each.version === version);
  return looks.slice(1).map((look, place) => between(looks[place], look)).filter(Boolean);
}

function between(before, after) {
  const seconds = (after.t - before.t) / 1000;
  const change = (status) => after.counts[status] - before.counts[status];
  if (seconds <= 0 || change("ok") < 0) return null;
  const buckets = after.buckets.map(([bound, value], place) => [bound, value - (before.buckets[place]?.[1] ?? 0)]);
  const finite = (value) => (value === Infinity ? null : value);
  return {t: after.t, rows: (change("ok") + change("replayed")) / seconds, bad: (change("failed") + change("refused")) / seconds, p50: finite(quantile(buckets, 0.5)), p99: finite(quantile(buckets, 0.99))};
}
