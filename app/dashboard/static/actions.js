// What people do on the page: a dialog asks, the service acts, and the page says what came of it.

import {act, part} from "./api.js";
import {h} from "./dom.js";

export const button = (text, onclick, {primary = false, disabled = false, title} = {}) =>
  h("button", {type: "button", class: primary ? "primary" : null, onclick, disabled, title}, text);

// A dialog with fields; `go(values)` does the work and gives the sentence that says so.
export function ask({title, text, fields = [], submit, danger = false, go, done}) {
  const failed = h("p", {class: "failed", role: "alert"});
  const confirm = h("button", {class: danger ? "danger" : "primary"}, submit);
  const form = h("form", {method: "dialog"}, h("h2", {id: "dialog-title"}, title), text && h("p", {}, text), fields.map(field), failed,
    h("div", {class: "buttons"}, h("button", {type: "button", onclick: () => dialog.close()}, "Cancel"), confirm));
  const dialog = h("dialog", {"aria-labelledby": "dialog-title"}, form);
  form.onsubmit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    failed.textContent = "";
    try {
      say(await go(Object.fromEntries(new FormData(form))));
      dialog.close();
      done?.();
    } catch (error) {
      failed.textContent = error.message;
      confirm.disabled = false;
    }
  };
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}

function field({name, label, value = "", options, hint, required = true}) {
  const input = options
    ? h("select", {name}, options.map(([key, text]) => h("option", {value: key, selected: key === value}, text)))
    : h("input", {name, value, required, autocomplete: "off", maxlength: 500});
  return h("label", {class: "field"}, h("span", {}, label), input, hint && h("small", {}, hint));
}

// A sentence at the foot of the page, read out by a screen reader.
export function say(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.textContent = ""; }, 8000);
}

export function acknowledge(alert, done) {
  ask({
    title: "I am on it", submit: "Acknowledge", done,
    text: `The alert goes on, and everybody sees that somebody works on it: ${alert.message}`,
    go: async () => {
      await act("POST", `/alerts/${part(alert.alert_id)}/acknowledge`);
      return "Acknowledged.";
    },
  });
}

const DURATIONS = [["1h", "1 hour"], ["4h", "4 hours"], ["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"]];

export function silence(alert, done) {
  const feature = alert.rule === "feature_drift" && alert.causes.length === 1 ? alert.causes[0] : null;
  ask({
    title: "Silence", submit: "Silence", done,
    text: `Nobody is told of ${alert.rule}${feature === null ? "" : ` of ${feature}`} for this time. It is still judged and shown.`,
    fields: [{name: "duration", label: "For", options: DURATIONS, value: "4h"}, {name: "reason", label: "Why", hint: "for those who wonder later"}],
    go: async ({duration, reason}) => {
      await act("POST", "/alerts/silences", {matcher: {rule: alert.rule, feature}, duration, reason});
      return "Silenced.";
    },
  });
}

export function endSilence({silence_id: id, reason}, done) {
  ask({
    title: "End the silence", submit: "End it", text: `Messages are sent again: ${reason}`, done,
    go: async () => {
      await act("DELETE", `/alerts/silences/${part(id)}`);
      return "The silence has ended.";
    },
  });
}

export function accept(alert, done) {
  ask({
    title: "Accept as the new normal", submit: "Accept", done,
    text: `The alert ends, and comes back if this grows, changes, or returns after it had gone: ${alert.message}`,
    fields: [{name: "reason", label: "Why", hint: "for those who read the reports later"}],
    go: async ({reason}) => {
      await act("POST", `/alerts/${part(alert.alert_id)}/accept`, {reason});
      return "Accepted: from now on this is the normal.";
    },
  });
}

export function runChecks(version, done) {
  ask({
    title: "Run every check now", submit: "Run", done,
    text: "Drift, data quality and performance are looked at now, and alerts follow from what is found.",
    go: async () => {
      const {reports} = await act("POST", `/checks${version ? `?model_version=${part(version)}` : ""}`);
      return `${reports.length} reports are new.`;
    },
  });
}

export function activate(model, version, done) {
  ask({
    title: `Activate version ${version}`, submit: "Activate", danger: true, done,
    text: "It is loaded, verified and warmed first, and then answers on every replica. Where that fails, nothing changes.",
    go: async () => {
      await act("POST", `/models/${part(model)}/activate`, {version});
      return `Version ${version} answers now.`;
    },
  });
}

export function rollBack(model, done) {
  ask({
    title: "Roll back", submit: "Roll back", danger: true, done,
    text: "The version that answered before the active one answers again.",
    go: async () => {
      const {version} = await act("POST", `/models/${part(model)}/rollback`);
      return `Version ${version} answers now.`;
    },
  });
}
