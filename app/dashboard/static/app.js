// The page: who reads it, which view the address names, and its refreshing.

import {get, Refused} from "./api.js";
import {isActive, marksOf} from "./data.js";
import {h, morph} from "./dom.js";
import {capital, useZone} from "./format.js";
import {controls, header, navigation} from "./shell.js";
import {currentView, linkTo, navigate, onNavigate, parameters, timeRange} from "./state.js";
import {missing} from "./ui.js";

const VIEWS = {
  "": ["Overview", () => import("./views/overview.js")],
  performance: ["Performance", () => import("./views/performance.js")],
  drift: ["Drift", () => import("./views/drift.js")],
  quality: ["Data quality", () => import("./views/quality.js")],
  service: ["Service", () => import("./views/service.js")],
  alerts: ["Alerts", () => import("./views/alerts.js")],
  predictions: ["Predictions", () => import("./views/predictions.js")],
  reports: ["Reports", () => import("./views/reports.js")],
  models: ["Models", () => import("./views/models.js")],
  playbook: ["Playbook", () => import("./views/playbook.js")],
  "sign-in": ["Sign in", () => import("./views/sign_in.js")],
};
const EVERY_MS = 10_000;
const main = document.getElementById("main");
let turn = 0;
let timer = 0;
let shownView = null;
let alerts = null; // not known yet

async function readContext() {
  const query = parameters();
  const caller = await get("/dashboard/session");
  const models = isStranger(caller) ? null : await get("/models").catch(onlyRefusals);
  const model = models?.items?.[0] ?? null;
  const active = model?.versions.find(({role}) => role === "active")?.version ?? null;
  const range = timeRange();
  range.marks = model?.versions.length > 1 ? await marksOf(model.name, range) : [];
  return {
    caller, model, active, query, range,
    version: query.get("version") ?? active,
    segment: query.get("segment"),
    can: (scope) => caller.scopes.includes(scope) || caller.scopes.includes("admin"),
    refresh,
  };
}

const isStranger = (caller) => caller.needs_key && caller.name === null;

// A key without the scope read has no model to show; what goes wrong otherwise is shown.
function onlyRefusals(error) {
  if (error instanceof Refused && [401, 403].includes(error.status)) return null;
  throw error;
}

async function show() {
  clearTimeout(timer);
  const mine = ++turn;
  const view = VIEWS[currentView()] ? currentView() : "";
  useZone(parameters().get("zone"));
  if (view !== shownView) {
    document.body.removeAttribute("data-ready");
    morph(main, h("div", {}, h("p", {class: "loading", role: "status"}, "Loading …")));
    morph(document.getElementById("views"), navigation(VIEWS, view, alerts ?? []));
  }
  try {
    const loading = VIEWS[view][1]();
    const context = await readContext();
    if (mine !== turn) return;
    if (isStranger(context.caller) && !["sign-in", "playbook"].includes(view)) {
      navigate(linkTo("sign-in", {next: location.pathname + location.search}), {replace: true});
      return;
    }
    frame(view, context);
    const module = await loading;
    const [content, found] = await Promise.all([module.view(context), firing(context)]);
    if (mine !== turn) return;
    alerts = found;
    frame(view, context);
    morph(main, h("div", {}, content));
    document.body.classList.remove("stale");
  } catch (error) {
    if (mine !== turn) return;
    explain(error, view);
  }
  if (view !== shownView) focus(view);
  shownView = view;
  document.body.dataset.ready = view || "overview";
  if (timeRange().live || document.body.classList.contains("stale")) timer = setTimeout(refresh, EVERY_MS);
}

async function firing(context) {
  if (isStranger(context.caller)) return [];
  const {items} = await get("/alerts", {limit: 1000});
  return items.filter(isActive);
}

function frame(view, context) {
  morph(document.getElementById("top"), header(context, alerts));
  morph(document.getElementById("views"), navigation(VIEWS, view, alerts ?? []));
  morph(document.getElementById("controls"), controls(context, view));
  const name = VIEWS[view][0];
  const worst = alerts?.length ? `${alerts.length} firing · ` : "";
  document.title = `${worst}${name} · Plumbline`;
}

function explain(error, view) {
  if (error instanceof Refused && error.status === 401) {
    navigate(linkTo("sign-in", {next: location.pathname + location.search}), {replace: true});
    return;
  }
  if (!(error instanceof Refused)) console.error(error);
  const what = error instanceof Refused ? capital(error.message) : "This view has a fault; the browser's console has it";
  document.body.classList.add("stale");
  document.title = `${what} · Plumbline`;
  const text = missing(what, "Figures below, if any, are those of the last look.", "The page tries again every ten seconds.");
  text.classList.add("failure");
  text.setAttribute("role", "alert");
  main.querySelector(".failure")?.remove();
  if (view !== shownView || main.querySelector(".loading")) main.replaceChildren(text);
  else main.prepend(text);
}

// After a change of view a screen reader begins with its title.
function focus(view) {
  if (shownView === null) return;
  window.scrollTo(0, 0);
  main.setAttribute("aria-label", VIEWS[view][0]);
  if (!main.contains(document.activeElement)) main.focus({preventScroll: true});
}

function refresh() {
  if (document.hidden) timer = setTimeout(refresh, EVERY_MS);
  else show();
}

// A link inside the page changes the view without loading the page.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/dashboard']");
  if (!link || link.target || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  navigate(link.getAttribute("href"));
});

onNavigate(show);
show();

