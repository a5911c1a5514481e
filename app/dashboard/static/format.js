// Numbers and times as people read them.

let zone = "UTC";

export const useZone = (name) => { zone = name === "local" ? undefined : "UTC"; };

export const count = (value) => (value == null ? "–" : value.toLocaleString("en"));

export const share = (value) => (value == null ? "–" : `${(100 * value).toFixed(value !== 0 && Math.abs(value) < 0.1 ? 1 : 0)} %`);

export function number(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return count(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1);
  return size >= 1000 ? count(Math.round(value)) : String(Number(value.toPrecision(3)));
}

const UNITS = [["ms", 0.001, 1], ["s", 1, 90], ["min", 60, 5400], ["h", 3600, 129600], ["days", 86400, Infinity]];

export function duration(seconds) {
  if (seconds == null) return "–";
  const [unit, length] = UNITS.find(([, , end]) => seconds < end) ?? UNITS.at(-1);
  const amount = seconds / length;
  const rounded = Math.round(amount);
  return `${number(seconds < 1 ? Number(amount.toPrecision(2)) : rounded)} ${unit === "days" && rounded === 1 ? "day" : unit}`;
}

// A period of ISO 8601 as the reports write it: P30D, PT5400S.
export function period(text) {
  if (!text) return "–";
  const amount = Number(text.replace(/[PTDS]/g, ""));
  return duration(text.endsWith("D") ? amount * 86400 : amount);
}

export const ago = (time, now = Date.now()) => `${duration(Math.max(1, Math.round((now - Date.parse(time)) / 1000)))} ago`;

const parts = (time, options) => new Date(time).toLocaleString("en-GB", {timeZone: zone, hourCycle: "h23", ...options});

export const clock = (time) => parts(time, {hour: "2-digit", minute: "2-digit", second: "2-digit"});

export function moment(time) {
  if (time == null) return "–";
  return `${parts(time, {day: "numeric", month: "short", year: "numeric"})}, ${clock(time)} ${zoneName()}`;
}

export const zoneName = () => (zone === "UTC" ? "UTC" : "local time");

export const hourOrDay = (time, step) => {
  if (step >= 86_400_000) return parts(time, {day: "numeric", month: "short"});
  return parts(time, step < 60_000 ? {hour: "2-digit", minute: "2-digit", second: "2-digit"} : {hour: "2-digit", minute: "2-digit"});
};

export const offsetOf = (time) => (zone === "UTC" ? 0 : -new Date(time).getTimezoneOffset() * 60_000);

const NAMES = {roc_auc: "ROC AUC", log_loss: "log loss", mae: "MAE", rmse: "RMSE", r2: "R²", f1: "F1", psi: "PSI", mape: "MAPE", pr_auc: "PR AUC", mcc: "MCC"};

export const words = (name) => NAMES[name] ?? String(name).replaceAll("_", " ");

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const plural = (amount, one, many = `${one}s`) => `${count(amount)} ${amount === 1 ? one : many}`;
