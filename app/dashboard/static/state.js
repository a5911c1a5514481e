// The address is the state: view, time, version, segment. A link opens what its sender saw.

export const RANGES = [
  ["1h", "Last hour", 3600], ["6h", "Last 6 hours", 21_600], ["24h", "Last 24 hours", 86_400], ["7d", "Last 7 days", 604_800],
  ["30d", "Last 30 days", 2_592_000], ["90d", "Last 90 days", 7_776_000],
];
const DEFAULT_RANGE = "24h";
const KEPT = ["range", "from", "to", "zone", "version"];

export const currentView = () => location.pathname.split("/")[2] ?? "";

export const parameters = () => new URLSearchParams(location.search);

// The chosen time in milliseconds; `live` where it ends now.
export function timeRange(now = Date.now()) {
  const query = parameters();
  const [from, to] = [Date.parse(query.get("from")), Date.parse(query.get("to"))];
  if (query.get("range") === "custom" && from < to) return {key: "custom", from, to, live: false, label: "the chosen time"};
  const [key, label, seconds] = RANGES.find(([name]) => name === query.get("range")) ?? RANGES.find(([name]) => name === DEFAULT_RANGE);
  return {key, from: now - 1000 * seconds, to: now, live: true, label: label.toLowerCase()};
}

// The address of a view; time, version and zone go along.
export function linkTo(view, changes = {}) {
  const query = new URLSearchParams();
  const before = parameters();
  for (const name of KEPT) if (before.has(name)) query.set(name, before.get(name));
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `/dashboard${view ? `/${view}` : ""}${text ? `?${text}` : ""}`;
}

// The address of this view with some of it changed.
export function changed(changes) {
  const query = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `${location.pathname}${text ? `?${text}` : ""}`;
}

let listener = () => {};

export const onNavigate = (act) => { listener = act; };

export function navigate(href, {replace = false} = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href);
  listener();
}

addEventListener("popstate", () => listener());
