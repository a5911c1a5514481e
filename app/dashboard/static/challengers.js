// Champion and challengers: one line for each version that answers the same rows.

import {getJson} from "./api.js";
import {count, number, share, words} from "./format.js";
import {element} from "./dom.js";
import {mainMetric} from "./tiles.js";

const COLUMNS = ["version", "metric", "value", "interval", "outcomes", "drift", "agrees with the champion", "better by"];

export async function readChallengers(model) {
  const {versions} = await getJson(`/models/${encodeURIComponent(model.name)}`);
  const shadows = versions.filter(({role}) => role === "shadow").map(({version}) => version);
  return Promise.all(shadows.map(async (version) => {
    const query = `?model_version=${encodeURIComponent(version)}`;
    const [performance, drift] = await Promise.all([getJson(`/performance${query}`), getJson(`/drift${query}`)]);
    return {performance, drift};
  }));
}

export function showChallengers(champion, challengers) {
  const section = document.querySelector(".challengers");
  section.hidden = challengers.length === 0;
  const head = element("tr", {}, ...COLUMNS.map((name) => element("th", {}, name)));
  const rows = [champion, ...challengers].map((each) => row(each, champion.performance.model_version));
  section.querySelector("table").replaceChildren(head, ...rows);
}

function row({performance, drift}, champion) {
  const metrics = performance.realised?.metrics ?? {};
  const main = mainMetric(metrics);
  const metric = metrics[main] ?? {};
  const beside = performance.beside?.[champion];
  const isChampion = performance.model_version === champion;
  const cells = [
    `${performance.model_version} (${isChampion ? "champion" : "shadow"})`,
    main === undefined ? performance.message ?? "no outcomes yet" : words(main),
    number(metric.value),
    interval(metric),
    performance.window ? `${share(performance.realised?.coverage)} of ${count(performance.window.rows)}` : "–",
    words(drift.status),
    isChampion ? "" : agreement(beside),
    isChampion ? "" : advantage(beside?.advantage),
  ];
  return element("tr", {"data-status": performance.status}, ...cells.map((text) => element("td", {}, text)));
}

const interval = ({low, high}) => (low == null ? "–" : `[${number(low)}, ${number(high)}]`);

const advantage = (found) => (found ? `${number(found.value)}  ${interval(found)}` : "–");

function agreement(beside) {
  if (!beside) return "–";
  if (beside.agreement === null) return `differs by ${number(beside.mean_difference)} on average`;
  return `${share(beside.agreement)} of ${count(beside.rows)} rows`;
}
