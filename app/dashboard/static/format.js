// Numbers and times as people read them.

export const count = (value) => value.toLocaleString("en");

export const share = (value) => (value == null ? "–" : `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`);

export function number(value) {
  if (value == null) return "–";
  if (Number.isInteger(value)) return count(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1);
  return size >= 1000 ? count(Math.round(value)) : String(Number(value.toPrecision(3)));
}

const UNITS = [["ms", 0.001, 1], ["s", 1, 90], ["min", 60, 5400], ["h", 3600, 129600], ["days", 86400, Infinity]];

export function duration(seconds) {
  if (seconds == null) return "–";
  const [unit, length] = UNITS.find(([, , end]) => seconds < end) ?? UNITS.at(-1);
  const amount = seconds / length;
  return `${number(seconds < 1 ? Number(amount.toPrecision(2)) : Math.round(amount))} ${unit}`;
}

export const ago = (time, now) => `${duration(Math.max(1, Math.round((now - Date.parse(time)) / 1000)))} ago`;

export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

export const words = (name) => name.replaceAll("_", " ");

// Plotly reads a little HTML in its texts; a feature's name is none.
export const plain = (name) => String(name).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
