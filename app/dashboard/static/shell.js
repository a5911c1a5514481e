// Around every view: the header, the views, and the choice of time, version and zone.

import {act} from "./api.js";
import {say} from "./actions.js";
import {h} from "./dom.js";
import {plural} from "./format.js";
import {changed, linkTo, navigate, RANGES} from "./state.js";
import {pick} from "./ui.js";

const THEMES = {auto: "light", light: "dark", dark: "auto"};
const TIMELESS = ["playbook", "sign-in", "models"];

export function header(context, alerts) {
  const {caller, model, version} = context;
  const worst = alerts === null ? null : alerts.some(({severity}) => ["critical", "high"].includes(severity)) ? "bad" : alerts.length ? "warn" : "ok";
  const known = model !== null;
  return h("div", {},
    h("a", {class: "brand", href: linkTo("")}, h("span", {class: "mark", "aria-hidden": "true"}), "Plumbline"),
    known && h("span", {class: "model"}, `${model.name} ${version ?? ""}`),
    known && alerts !== null && h("a", {class: "pill", "data-level": worst, href: linkTo("alerts")}, alerts.length ? `${plural(alerts.length, "alert")} firing` : "nothing fires"),
    h("span", {class: "spacer"}),
    h("a", {href: "/docs", class: "quiet"}, "API"),
    h("button", {type: "button", class: "quiet", onclick: nextTheme, "aria-label": "Change the colours: automatic, light or dark"}, `Colours: ${theme()}`),
    caller.needs_key && caller.name !== null ? h("span", {class: "who"}, caller.name, " ", h("button", {type: "button", class: "quiet", onclick: () => signOut(context)}, "Sign out")) : null,
    caller.needs_key && caller.name === null ? h("a", {class: "quiet", href: linkTo("sign-in")}, "Sign in") : null);
}

const theme = () => document.documentElement.dataset.theme ?? "auto";

function nextTheme(event) {
  const next = THEMES[theme()];
  document.documentElement.dataset.theme = next;
  localStorage.setItem("plumbline-theme", next);
  event.target.textContent = `Colours: ${next}`;
}

async function signOut() {
  await act("DELETE", "/dashboard/session");
  say("Signed out.");
  navigate("/dashboard/sign-in");
}

export function navigation(views, current, alerts) {
  const entries = Object.entries(views).filter(([name]) => name !== "sign-in");
  return h("div", {}, h("ul", {}, entries.map(([name, [title]]) => h("li", {"data-key": `nav-${name}`},
    h("a", {href: linkTo(name), "aria-current": name === current ? "page" : null}, title,
      name === "alerts" && alerts.length ? h("span", {class: "count", "aria-label": "firing"}, String(alerts.length)) : null)))));
}

export function controls(context, view) {
  const {range, query, model, version, active} = context;
  if (TIMELESS.includes(view) || model === null) return h("div", {});
  const versions = model.versions.map((each) => [each.version, `${each.version} (${each.role})`]);
  const times = [...RANGES.map(([key, label]) => [key, label]), ["custom", "From … to …"]];
  return h("div", {},
    pick("Time", times, range.key === "custom" || query.get("range") === "custom" ? "custom" : range.key, (key) => navigate(changed({range: key, from: null, to: null, cursor: null}))),
    query.get("range") === "custom" ? customTime(context) : null,
    pick("Zone", [["UTC", "UTC"], ["local", "Local time"]], query.get("zone") ?? "UTC", (zone) => navigate(changed({zone: zone === "UTC" ? null : zone}))),
    pick("Version", versions, version ?? "", (chosen) => navigate(changed({version: chosen === active ? null : chosen, segment: null, cursor: null}))),
    h("span", {class: "live", "data-live": String(range.live)}, range.live ? "live, every 10 s" : "a fixed time"));
}

function customTime({query}) {
  const zone = query.get("zone") === "local" ? "" : "Z";
  const shown = (text) => {
    if (!Number.isFinite(Date.parse(text))) return "";
    const time = new Date(text);
    return new Date(time.getTime() - (zone ? 0 : time.getTimezoneOffset() * 60_000)).toISOString().slice(0, 16);
  };
  const input = (name) => h("input", {type: "datetime-local", name, "aria-label": name, required: true, value: shown(query.get(name))});
  const submit = (event) => {
    event.preventDefault();
    const {from, to} = Object.fromEntries(new FormData(event.target));
    const time = (text) => new Date(`${text}${zone}`).toISOString();
    if (from && to && from < to) navigate(changed({from: time(from), to: time(to)}));
    else say("The end must be after the beginning.");
  };
  return h("form", {class: "custom", "data-key": "custom", onsubmit: submit}, input("from"), h("span", {}, "to"), input("to"), h("button", {}, "Show"));
}
