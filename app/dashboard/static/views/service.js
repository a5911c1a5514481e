// Traffic, latency and errors by kind: of all replicas over the chosen time from /summary, of this one from /metrics.

import {get, getIfThere} from "../api.js";
import {lineChart} from "../charts/line.js";
import {h} from "../dom.js";
import {ago, capital, count, duration, moment, number, share, words} from "../format.js";
import {readMetrics, sum} from "../metrics.js";
import {linkTo} from "../state.js";
import {card, missing, pill, stat, stats, status, table} from "../ui.js";
import {span} from "../data.js";

export async function view(context) {
  const {range, version} = context;
  const minutes = Math.max(1, Math.round((range.to - range.from) / 60_000));
  const [ready, summary, steps, series, reports] = await Promise.all([
    get("/health/ready", {}, [503]), range.live ? getIfThere("/summary", {minutes, model_version: version}) : null,
    get("/summary/history", {...span(range), points: 120, model_version: version}), readMetrics(),
    getIfThere("/reports", {kind: "service", ...span(range), limit: 20})]);
  return [
    health(ready, series, version),
    h("div", {class: "columns"}, overall(summary, range), traffic(steps.items, range), latency(steps.items, range), errors(series, context), metricsOf(summary), reportsOf(reports)),
  ];
}

const PARTS = {model: "the model is loaded and warmed", journal: "the writer runs", store: "the store answers", monitor: "checks and alerts run"};

function health(ready, series, version) {
  const parts = Object.entries(ready.checks).map(([name, is]) => stat(capital(name), is === true ? "Yes" : is === "spooling" ? "Spooling" : "No", {level: is === true ? "ok" : is === "spooling" ? "warn" : "bad", sub: [PARTS[name]]}));
  const last = series ? sum(series, "ml_last_prediction_timestamp_seconds", {model_version: version}) : 0;
  return card("Is it serving?", {wide: true, level: ready.ready ? "ok" : "bad", note: last ? `last prediction ${ago(new Date(1000 * last).toISOString())}` : `as of ${moment(Date.now())}`},
    h("p", {class: "verdict"}, ready.ready ? "Yes" : "No"), stats(...parts), ready.dead_tasks && h("p", {class: "advice"}, `These tasks have ended: ${ready.dead_tasks.join(", ")}. Restart this replica.`));
}

function overall(summary, range) {
  if (!range.live) return card("In the chosen time", {}, missing("Live times only", "The summary ends now.", "Choose a time that ends now for requests and latency of all replicas."));
  if (!summary) return card("In the chosen time", {}, missing("No summary", "This service gives no summary of requests and latency.", "The figures of this replica stand beside."));
  const latency = summary.latency_seconds ?? {};
  return card(`In ${range.label}`, {note: `n = ${count(summary.requests)} requests · ${moment(summary.from)} to ${moment(summary.to)}`},
    stats(
      stat("Requests", count(summary.requests), {sub: [`${count(summary.failed)} failed, ${count(summary.refused)} refused`]}),
      stat("Answered", share(summary.success_share), {sub: ["of what was not refused"]}),
      stat("Under the target", share(summary.share_under_target), {sub: [`target ${duration(summary.latency_target_seconds)}`]}),
      stat("p50", duration(latency.p50)), stat("p95", duration(latency.p95)), stat("p99", duration(latency.p99)), stat("Slowest", duration(latency.max))),
    (summary.missing ?? []).map((each) => h("p", {class: "note"}, typeof each === "string" ? capital(each) : JSON.stringify(each))));
}

const noMetrics = () => missing("Not to be read", "The key lacks the scope metrics.", "Sign in with a key that has it.");

// Where requests are not counted by route, predictions are by status.
function byStatus(series, {version}) {
  const rows = series.filter(({name, labels}) => name === "ml_predictions_total" && labels.model_version === version);
  if (!rows.some(({value}) => value > 0)) return card("Answers", {}, missing("No requests yet", "This replica has predicted nothing since its start.", "POST /predict makes the first; the page at /docs has an example."));
  return card("Answers", {note: "rows of this replica, since its start"}, table("Answers", ["status", {text: "rows", n: true}],
    rows.map(({labels, value}) => ({key: `${labels.prediction_type} ${labels.status}`, cells: [pill(value === 0 ? "idle" : {ok: "ok", replayed: "ok", refused: "warn"}[labels.status] ?? "bad", labels.status), count(value)]}))));
}

function errors(series, context) {
  if (!series) return card("Answers by route", {}, noMetrics());
  const rows = series.filter(({name, value}) => name === "ml_requests_total" && value > 0).sort((one, other) => other.value - one.value).slice(0, 40);
  const failed = (code) => ({5: "bad", 4: "warn"}[code[0]] ?? "ok"); // 200, or 2xx
  if (!rows.length) return byStatus(series, context);
  return card("Answers by route", {note: "this replica, since its start"}, table("Answers by route", ["route", "method", "status", {text: "requests", n: true}],
    rows.map(({labels, value}) => ({key: `${labels.route} ${labels.method} ${labels.status}`, cells: [h("span", {class: "wrap"}, labels.route), labels.method, pill(failed(labels.status), labels.status), count(value)]})), {sticky: true}));
}

// A part of the time is drawn at its end, as what has come until then; the last one goes on.
const ends = (steps) => steps.map((step) => ({...step, t: Date.parse(step.to), seconds: Math.max(1, (Date.parse(step.to) - Date.parse(step.from)) / 1000)}));

function traffic(items, range) {
  const steps = ends(items);
  if (!steps.some(({requests}) => requests)) return card("Traffic", {}, missing("No requests in this time", "POST /predict makes the first; the page at /docs has an example."));
  const answered = steps.map(({t, seconds, requests, failed, refused}) => ({t, v: (requests - failed - refused) / seconds, note: `${count(requests)} requests`}));
  const bad = steps.map(({t, seconds, failed, refused}) => ({t, v: (failed + refused) / seconds}));
  return card("Traffic", {note: `all replicas; a point is ${duration(steps[0].seconds)}`}, lineChart({title: "Requests a second", marks: range.marks, domain: [0, 1.1 * Math.max(...[...answered, ...bad].map(({v}) => v))],
    series: [{name: "answered", kind: "now", points: answered}, {name: "failed or refused", kind: "second", points: bad}]}));
}

function latency(items, range) {
  const steps = ends(items);
  const known = steps.filter(({latency_seconds: each}) => each.p99 !== null);
  if (!known.length) return card("Latency", {}, missing("No request was answered in this time", "The line begins with the first answer."));
  const points = (name) => steps.map(({t, latency_seconds: each}) => ({t, v: each[name]}));
  return card("Latency", {note: "all replicas, interpolated within the histogram's bins"}, lineChart({title: "Time to an answer", marks: range.marks, show: duration, domain: [0, 1.1 * Math.max(...known.map(({latency_seconds: each}) => each.p99))],
    series: [{name: "p50", kind: "now", points: points("p50")}, {name: "p99", kind: "second", points: points("p99")}]}));
}

function metricsOf(summary) {
  const rows = Object.entries(summary?.metrics ?? {}).map(([name, each]) => [words(name), number(each.last), number(each.average), number(each.min), number(each.max)]);
  if (!rows.length) return null;
  return card("Metrics in this time", {note: `${moment(summary.from)} to ${moment(summary.to)}`, actions: [h("a", {href: linkTo("performance")}, "Performance")]},
    table("Metrics in this time", ["metric", {text: "last", n: true}, {text: "average", n: true}, {text: "lowest", n: true}, {text: "highest", n: true}], rows));
}

function reportsOf(reports) {
  if (!reports?.items?.length) return null;
  const rows = reports.items.map((each) => ({key: each.report_id, cells: [h("a", {href: linkTo("reports", {id: each.report_id})}, moment(each.checked_at)), each.model_version, status(each.status)]}));
  return card("Service reports", {note: "written when something is wrong or has ended"}, table("Service reports", ["time", "version", "status"], rows, {sticky: true}));
}
