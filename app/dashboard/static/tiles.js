// The five answers on the first line of the page: each has a level (ok, warn, bad, idle), a headline and facts.

import {ago, clock, count, duration, number, share, words} from "./format.js";
import {element} from "./dom.js";

export function showTile(id, {level, headline, facts}) {
  const tile = document.getElementById(id);
  tile.dataset.level = level;
  tile.querySelector(".headline").textContent = headline;
  const pairs = facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {title: String(value)}, String(value))]);
  tile.querySelector("dl").replaceChildren(...pairs);
}

export function serving(ready, model, traffic) {
  const missing = Object.keys(ready.checks).filter((name) => !ready.checks[name]);
  const facts = [["model", `${model.name} ${model.version}`]];
  if (traffic) {
    facts.push(["rows answered", count(traffic.ok + traffic.replayed)], ["failed", count(traffic.failed)], ["refused", count(traffic.refused)]);
    facts.push(["now", traffic.rate == null ? "–" : `${number(traffic.rate)} rows a second`]);
    facts.push(["95 % within", duration(traffic.bound)]);
  } else {
    facts.push(["requests", "the key lacks the scope metrics"]);
  }
  if (!ready.ready) return {level: "bad", headline: `No: ${missing.join(", ")}`, facts};
  return {level: missing.length ? "warn" : "ok", headline: missing.length ? `Yes, without ${missing.join(", ")}` : "Yes", facts};
}

const MAIN_METRICS = ["accuracy", "mae"];

export const mainMetric = (metrics) => MAIN_METRICS.find((name) => name in metrics);

export function right(performance) {
  const realised = performance.realised;
  const main = mainMetric(realised?.metrics ?? {});
  if (main === undefined) return {level: "idle", headline: "Not known yet", facts: [["why", performance.message ?? "no outcomes yet"]]};
  const metric = realised.metrics[main];
  const others = Object.keys(realised.metrics).filter((name) => name !== main && realised.metrics[name].status === "degraded");
  const facts = [
    [words(main), `${number(metric.value)}  [${number(metric.low)}, ${number(metric.high)}]`],
    ["baseline", number(metric.baseline)],
    ["limit", number(metric.limit)],
    ["outcomes", `${share(realised.coverage)} of ${count(performance.window.rows)} rows`],
  ];
  facts.push(others.length ? ["degraded too", others.map(words).join(", ")] : ["label delay", `${duration(realised.label_delay_seconds.p95)} (95 %)`]);
  if (realised.unknown_classes) facts.push(["unknown classes", realised.unknown_classes.message]);
  const levels = {degraded: ["bad", "No: degraded"], ok: ["ok", "Yes"], improved: ["ok", "Yes: improved"]};
  const [level, headline] = levels[performance.status] ?? ["idle", "Not known yet"];
  if (performance.message) facts.push(["why", performance.message]);
  return {level, headline, facts};
}

const amount = (found, value) => (found.kind === "freshness" ? duration(value) : share(value));

export function input(drift) {
  const quality = drift.data_quality;
  if (!quality || quality.status === "insufficient_data") return {level: "idle", headline: "Not known yet", facts: [["why", drift.message ?? "no check yet"]]};
  const findings = quality.findings;
  if (!findings.length) return {level: "ok", headline: "Yes", facts: [["findings", "none"], ["rows checked", count(drift.window.rows)]]};
  const facts = findings.slice(0, 5).map((found) => [
    found.feature ?? "rows", `${words(found.kind)} ${amount(found, found.value)} (limit ${amount(found, found.limit)})`]);
  if (findings.length > 5) facts.push(["and", `${findings.length - 5} more`]);
  return {level: "warn", headline: findings.length === 1 ? "One finding" : `${findings.length} findings`, facts};
}

export function moved(drift) {
  const judged = Object.values(drift.features ?? {}).filter((entry) => entry.status !== "error").length;
  if (!judged) return {level: "idle", headline: "Not known yet", facts: [["why", drift.message ?? "no check yet"]]};
  if (drift.status === "insufficient_data") return {level: "idle", headline: "Not known yet", facts: [["why", drift.message ?? "too few independent rows"]]};
  const drifted = drift.drifted_features.length;
  const facts = [
    ["features", `${drifted} of ${judged} drifted`],
    ["predictions", drift.prediction?.status ?? "–"],
    ["probability", drift.prediction?.probability?.status ?? "–"],
    ["window", `${count(drift.window.rows)} rows`],
    ["since", clock(drift.window.from)],
    ["reference", `${count(drift.reference.rows)} rows`],
  ];
  const unjudged = drift.unjudged ?? [];
  if (unjudged.length) facts.splice(1, 0, ["not judged", `${count(unjudged.length)}: ${unjudged[0].feature}, ${unjudged[0].because}`]);
  if (drift.status !== "drift") return {level: "ok", headline: unjudged.length ? `No, as far as ${share(drift.judged_share)} of features tell` : "No", facts};
  return {level: drifted >= 3 ? "bad" : "warn", headline: drifted ? `Yes: ${share(drift.drift_share)} of features` : "Yes: the predictions", facts};
}

export function monitor(ready, drift, performance, now) {
  const times = [drift.checked_at, performance.checked_at].filter(Boolean);
  const when = (time) => (time ? ago(time, now) : "not yet");
  const facts = [["drift check", when(drift.checked_at)], ["performance check", when(performance.checked_at)]];
  const told = performance.realised?.unknown_classes?.message;
  const errors = [...(drift.errors ?? []), ...(performance.errors ?? [])].filter((error) => error.reason !== told);
  facts.push(["not compared", `${count(errors.length)} columns`]);
  if (!ready.checks.monitor) return {level: "bad", headline: "No: the monitor stopped", facts};
  if (!times.length) return {level: "idle", headline: "No check yet", facts};
  return {level: errors.length ? "warn" : "ok", headline: `Yes, ${ago(times.sort().at(-1), now)}`, facts};
}
