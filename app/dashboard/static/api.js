// Reading the service. The key, where one is needed, lives as long as the browser's tab.

const KEY = "plumbline-api-key";

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

async function fetchText(path) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(path, {headers: key === null ? {} : {"X-API-Key": key}, cache: "no-store"});
  return {status: answer.status, text: await answer.text()};
}

// A service that is not ready answers 503 and says why: that is data too.
export async function getJson(path, also = []) {
  const {status, text} = await fetchText(path);
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy's error page is not JSON; the status says enough.
  }
  if (status !== 200 && !also.includes(status)) throw new Refused(status, String(body.detail ?? `answer ${status}`));
  return body;
}

export async function getText(path) {
  const {status, text} = await fetchText(path);
  if (status !== 200) throw new Refused(status, `answer ${status}`);
  return text;
}

const SPAN_MS = 6 * 3600 * 1000;

// The last hours of a history, read whole once, then only what is new.
export class History {
  #path;
  #items = [];

  constructor(path) {
    this.#path = path;
  }

  async update() {
    const oldest = new Date(Date.now() - SPAN_MS).toISOString();
    const known = new Set(this.#items.map((item) => item.report_id));
    let from = this.#items.at(-1)?.checked_at ?? oldest;
    let cursor = "";
    do {
      const query = new URLSearchParams({from, limit: "1000", cursor});
      const page = await getJson(`${this.#path}?${query}`);
      this.#items.push(...page.items.filter((item) => !known.has(item.report_id)));
      cursor = page.next;
    } while (cursor);
    this.#items = this.#items.filter((item) => item.checked_at >= oldest);
    return this.#items;
  }
}

// What this process has answered since it started, out of the Prometheus text.
export function readTraffic(text, version) {
  const traffic = {ok: 0, failed: 0, refused: 0, replayed: 0, buckets: []};
  for (const line of text.split("\n")) {
    const [, name, labels, value] = /^(ml_predictions_total|ml_prediction_latency_seconds_bucket)\{(.*)\} (\S+)$/.exec(line) ?? [];
    if (name === undefined || !labels.includes(`model_version="${version}"`)) continue;
    if (name === "ml_predictions_total") traffic[/status="(\w+)"/.exec(labels)[1]] += Number(value);
    else traffic.buckets.push([Number(/le="([^"]+)"/.exec(labels)[1].replace("+Inf", "Infinity")), Number(value)]);
  }
  return traffic;
}

// The smallest bucket bound that 95 % of the requests stayed within, in seconds.
export function latencyBound(buckets) {
  const total = buckets.at(-1)?.[1] ?? 0;
  return total ? buckets.find(([, count]) => count >= 0.95 * total)[0] : null;
}
