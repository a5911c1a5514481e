// The page's one loop: read everything, show it, and again ten seconds later.

import {getJson, getText, hasKey, History, latencyBound, readTraffic, Refused, useKey} from "./api.js";
import {isActive, showAlerts, title} from "./alerts.js";
import {readChallengers, showChallengers} from "./challengers.js";
import {drawDriftShare, drawPerformance} from "./charts.js";
import {showFeatures} from "./features.js";
import {clock} from "./format.js";
import {input, mainMetric, monitor, moved, right, serving, showTile} from "./tiles.js";

const EVERY_MS = 10_000;
const driftHistory = new History("/drift/history");
const performanceHistory = new History("/performance/history");
const byId = (id) => document.getElementById(id);

let before = null;
let shownReport;

async function readTrafficNow(version, now) {
  let traffic;
  try {
    traffic = readTraffic(await getText("/metrics"), version);
  } catch (error) {
    if (error instanceof Refused && error.status === 403) return null;
    throw error;
  }
  const rows = traffic.ok + traffic.replayed;
  const rate = before && rows >= before.rows ? (rows - before.rows) / ((now - before.now) / 1000) : null;
  before = {rows, now};
  return {...traffic, rate, bound: latencyBound(traffic.buckets)};
}

function verdict(ready, alerts, drift, performance) {
  const firing = alerts.filter(isActive);
  if (!ready.ready) return ["bad", "not serving"];
  if (firing.some((alert) => ["critical", "high"].includes(alert.severity))) return ["bad", `${firing[0].severity}: ${title(firing[0].rule)}`];
  if (firing.length) return ["warn", firing.length === 1 ? "one alert" : `${firing.length} alerts`];
  if (!drift.checked_at && !performance.checked_at) return ["idle", "serving; no check yet"];
  return ["ok", "all is well"];
}

function showVerdict([level, text]) {
  byId("verdict").dataset.level = level;
  byId("verdict").textContent = text;
  document.title = `${text} · Plumbline`;
}

async function refresh() {
  const now = Date.now();
  const ready = await getJson("/health/ready", [503]);
  const [drift, performance, alerts, driftItems, performanceItems] = await Promise.all([
    getJson("/drift"), getJson("/performance"), getJson("/alerts"), driftHistory.update(), performanceHistory.update()]);
  const model = {name: drift.model_name, version: drift.model_version};
  byId("key").hidden = true;
  byId("model").textContent = `${model.name} ${model.version}`;
  showTile("serving", serving(ready, model, await readTrafficNow(model.version, now)));
  showTile("right", right(performance));
  showTile("input", input(drift));
  showTile("drift", moved(drift));
  showTile("monitor", monitor(ready, drift, performance, now));
  showAlerts(alerts, now);
  if (drift.report_id !== shownReport) showFeatures(drift);
  shownReport = drift.report_id;
  const metrics = performance.realised?.metrics ?? {};
  const metric = mainMetric(metrics) ?? "accuracy";
  drawPerformance(performanceItems, metric, metrics[metric]);
  drawDriftShare(driftItems);
  showChallengers({performance, drift}, await readChallengers(model));
  showVerdict(verdict(ready, alerts.alerts, drift, performance));
  byId("refreshed").textContent = `as of ${clock(now)}`;
  document.body.classList.remove("stale");
}

function explain(error) {
  document.body.classList.add("stale");
  if (error instanceof Refused && [401, 403].includes(error.status)) {
    byId("key").hidden = false;
    byId("key-error").textContent = hasKey() ? error.message : "";
    showVerdict(["idle", "an API key is needed"]);
  } else if (error instanceof Refused) {
    showVerdict(["bad", error.message]);
  } else {
    showVerdict(["bad", "the service does not answer"]);
    console.error(error);
  }
}

async function loop() {
  await refresh().catch(explain);
  setTimeout(loop, EVERY_MS);
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").querySelector("input").value);
  refresh().catch(explain);
});

loop();
