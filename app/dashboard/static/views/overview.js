// Is it still right? The answer first, then what it stands on.

import {get, getIfThere} from "../api.js";
import {button, runChecks} from "../actions.js";
import {lineChart} from "../charts/line.js";
import {sparkline} from "../charts/sparkline.js";
import {gapOf, isActive, mainMetric, metricPoints, reportsOf, SEVERITY_LEVELS, titleOf} from "../data.js";
import {h} from "../dom.js";
import {ago, capital, count, duration, number, plural, share, words} from "../format.js";
import {linkTo} from "../state.js";
import {card, missing, ofReport, pill, stat, stats} from "../ui.js";

export async function view(context) {
  const {range, version} = context;
  const minutes = Math.max(1, Math.round((range.to - range.from) / 60_000));
  const [[performance, performanceItems], [drift, driftItems], alerts, ready, summary] = await Promise.all([
    reportsOf("performance", context), reportsOf("drift", context), get("/alerts", {model_version: version, limit: 1000}), get("/health/ready", {}, [503]),
    range.live ? getIfThere("/summary", {minutes, model_version: version}) : null]);
  const main = mainMetric(performance.realised?.metrics, performance.estimated?.metrics);
  const firing = alerts.items.filter(isActive);
  return [
    answer(performance, main, context),
    stats(right(performance, main, performanceItems), moved(drift, driftItems), sound(drift, driftItems), serving(ready, summary), watched(performance, drift, ready)),
    h("div", {class: "columns"}, alertCard(firing, alerts.recommendations ?? []), metricCard(performance, performanceItems, main, range), driftCard(drift, driftItems, range)),
  ];
}

const VERDICTS = {degraded: ["bad", "No"], ok: ["ok", "Yes"], improved: ["ok", "Yes, better than its baseline"]};

// The verdict in words: by outcomes where they allow one, else by the estimate, else what is missing.
export function verdictOf(performance, main) {
  const basis = performance.basis ?? "realised";
  const estimate = performance.estimated ?? {};
  if (VERDICTS[performance.status]) {
    const [level, text] = VERDICTS[performance.status];
    return {level, text: basis === "estimated" ? `Probably ${text.toLowerCase()}` : text, basis};
  }
  if (VERDICTS[estimate.status] && estimate.metrics?.[main]) {
    const [level, text] = VERDICTS[estimate.status];
    return {level: level === "bad" ? "warn" : level, text: `Probably ${text.toLowerCase()}`, basis: "estimated"};
  }
  return {level: "idle", text: "Not known yet", basis: "none"};
}

function answer(performance, main, context) {
  const {level, text, basis} = verdictOf(performance, main);
  const metric = basis === "estimated" ? performance.estimated?.metrics?.[main] : performance.realised?.metrics?.[main];
  const figure = metric?.value == null ? null : `${capital(words(main))} ${number(metric.value)} [${number(metric.low)}, ${number(metric.high)}], limit ${number(metric.limit)}, baseline ${number(metric.baseline)}`;
  const stands = {realised: "by the outcomes that came", estimated: "estimated, without outcomes", none: ""}[basis];
  return h("section", {class: "answer", "data-level": level, "data-key": "answer"},
    h("p", {class: "question"}, "Is it still right?"), h("h1", {}, text),
    figure && h("p", {}, `${figure}${stands ? `, ${stands}` : ""}.`),
    performance.message && h("p", {}, `${capital(performance.message)}.`),
    h("p", {class: "note"}, ofReport(performance)),
    context.can("admin") && context.range.live ? h("div", {class: "actions"}, button("Run every check now", () => runChecks(context.version, context.refresh))) : null);
}

function right(performance, main, items) {
  const realised = performance.realised;
  const metric = realised?.metrics?.[main];
  const estimate = performance.estimated?.metrics?.[main];
  const {level} = verdictOf(performance, main);
  const points = metricPoints(items, metric?.value == null ? "estimated" : "realised", main);
  const sub = [
    metric?.value != null && `realised [${number(metric.low)}, ${number(metric.high)}], ${count(realised.labelled)} of ${count(performance.window?.rows)} rows labelled`,
    estimate?.value != null && `estimated ${number(estimate.value)} [${number(estimate.low)}, ${number(estimate.high)}], ${count(performance.estimated.rows)} rows`,
    metric?.value == null && estimate?.value == null && (performance.message ?? "no outcomes yet"),
  ];
  const value = metric?.value ?? estimate?.value;
  return stat(main === undefined ? "Performance" : capital(words(main)), number(value), {level, sub, spark: sparkline(points, metric?.limit ?? estimate?.limit), href: linkTo("performance")});
}

function moved(drift, items) {
  const judged = Object.values(drift.features ?? {}).filter(({status}) => ["stable", "drift"].includes(status)).length;
  const drifted = drift.drifted_features ?? [];
  const points = items.map((item) => ({t: item.t, v: item.values.drift_share}));
  const options = {href: linkTo("drift"), spark: sparkline(points)};
  if (!judged) return stat("Has the input moved?", "Not known yet", {...options, level: "idle", sub: [drift.message ?? "no check yet"]});
  const text = drift.status === "drift" ? (drifted.length ? `Yes: ${plural(drifted.length, "feature")}` : "Yes") : drift.status === "stable" ? "No" : "Not known yet";
  const level = {drift: "warn", stable: "ok"}[drift.status] ?? "idle";
  return stat("Has the input moved?", text, {...options, level, sub: [drifted.length ? drifted.slice(0, 3).join(", ") : `${judged} features judged`, `n = ${count(drift.window?.rows)}`]});
}

function sound(drift, items) {
  const quality = drift.data_quality;
  const points = items.map((item) => ({t: item.t, v: item.findings ?? null}));
  const options = {href: linkTo("quality"), spark: sparkline(points)};
  if (!quality || quality.status === "insufficient_data") return stat("Is the input sound?", "Not known yet", {...options, level: "idle", sub: [drift.message ?? "no check yet"]});
  const found = quality.findings;
  return stat("Is the input sound?", found.length ? plural(found.length, "finding") : "Yes", {...options, level: found.length ? "warn" : "ok",
    sub: [found.length ? found.slice(0, 2).map((each) => `${each.feature ?? "all rows"}: ${words(each.kind)}`).join(", ") : `n = ${count(drift.window?.rows)}`]});
}

function serving(ready, summary) {
  const lacking = Object.keys(ready.checks).filter((name) => ready.checks[name] !== true);
  const level = !ready.ready ? "bad" : lacking.length ? "warn" : "ok";
  const text = !ready.ready ? `No: ${lacking.join(", ")}` : lacking.length ? `Yes, without ${lacking.join(", ")}` : "Yes";
  const latency = summary?.latency_seconds;
  const sub = summary
    ? [`${count(summary.requests)} requests, ${summary.success_share == null ? "–" : share(summary.success_share)} answered`, latency?.p95 != null && `95 % within ${duration(latency.p95)}`]
    : ["requests and latency are under Service"];
  return stat("Is it serving?", text, {level, sub, href: linkTo("service")});
}

function watched(performance, drift, ready) {
  const times = [drift, performance].map((report) => report.checked_at).filter(Boolean).sort();
  const alive = ready.checks.monitor;
  return stat("Is anyone watching?", alive ? (times.length ? `Yes, ${ago(times.at(-1))}` : "No check yet") : "No: the monitor stopped", {level: !alive ? "bad" : times.length ? "ok" : "idle",
    sub: [`drift ${drift.checked_at ? ago(drift.checked_at) : "not yet"}`, `performance ${performance.checked_at ? ago(performance.checked_at) : "not yet"}`], href: linkTo("reports")});
}

const ADVICE = {retrain: "Retrain", fix_input: "Fix the input"};

function alertCard(firing, advice) {
  const shown = firing.slice(0, 6).map((alert) => h("li", {"data-key": alert.alert_id}, pill(SEVERITY_LEVELS[alert.severity], alert.severity),
    h("a", {href: linkTo("alerts", {id: alert.alert_id})}, titleOf(alert.rule)), h("span", {class: "note"}, `since ${ago(alert.since)}`), h("p", {}, alert.message)));
  return card("What fires", {note: firing.length > 6 ? `and ${firing.length - 6} more` : ""},
    advice.map(({action, because}) => h("p", {class: "advice"}, h("strong", {}, ADVICE[action] ?? words(action)), `: ${because}`)),
    firing.length ? h("ul", {class: "alerts"}, shown) : missing("Nothing fires", "No rule holds at present."));
}

function metricCard(performance, items, main, range) {
  const name = main ?? "accuracy";
  const metric = performance.realised?.metrics?.[name] ?? performance.estimated?.metrics?.[name];
  const known = items.some((item) => item.realised?.[name]?.value != null || item.estimated?.[name]?.value != null);
  if (!known) return card("Performance over time", {}, missing("No performance yet", `${capital(performance.message ?? "no check ran in this time")}.`, "Outcomes come with POST /outcome; the estimate needs fifty rows."));
  return card("Performance over time", {}, lineChart({
    title: capital(words(name)), from: range.from, to: range.to, marks: range.marks, gap: gapOf(items), note: ofReport(performance),
    series: [{name: "realised", kind: "now", points: metricPoints(items, "realised", name)}, {name: "estimated", kind: "second", points: metricPoints(items, "estimated", name)}],
    rules: [{name: "limit", value: metric?.limit, kind: "limit"}, {name: "baseline", value: metric?.baseline, kind: "baseline"}].filter(({value}) => value != null)}));
}

function driftCard(drift, items, range) {
  if (!items.some((item) => item.values.drift_share != null)) return card("Drift over time", {}, missing("No drift check yet", `${capital(drift.message ?? "no check ran in this time")}.`));
  const points = items.map((item) => ({t: item.t, v: item.values.drift_share, note: plural(item.values.drifted_features ?? 0, "feature")}));
  const highest = Math.max(0.1, ...points.map(({v}) => v ?? 0));
  return card("Drift over time", {}, lineChart({title: "Share of features that drifted", note: ofReport(drift), show: share, domain: [0, highest * 1.05], from: range.from, to: range.to, marks: range.marks, gap: gapOf(items),
    series: [{name: "drifted", kind: "now", steps: true, points}]}));
}
