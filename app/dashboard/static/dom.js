// Elements from data. Text enters the page as text only: names of features are anybody's.

const SVG = "http://www.w3.org/2000/svg";

// An HTML element; `on…` are handlers, `class` and every other name an attribute; null leaves one out.
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same for SVG.
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on") || name === "value" || name === "checked") made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false && child !== ""));
  return made;
}

const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit", "onkeydown", "onpointermove", "onpointerleave", "ontoggle"];

// Makes the children of one element those of another and keeps what is the same: focus, scroll and open parts stay.
export function morph(old, fresh) {
  const keyed = new Map([...old.children].filter((child) => child.dataset?.key).map((child) => [child.dataset.key, child]));
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const found = key && keyed.has(key) ? keyed.get(key) : place;
    if (found && isAlike(found, next)) {
      if (found !== place) old.insertBefore(found, place);
      else place = place.nextSibling;
      update(found, next);
    } else {
      old.insertBefore(next, place);
    }
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
}

function isAlike(one, other) {
  return one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;
}

function update(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const name of HANDLERS) if (old[name] !== next[name]) old[name] = next[name];
  for (const {name} of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const {name, value} of next.attributes) if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  if (next.redraw) {
    old.redraw = next.redraw;
    old.redraw(old);
    return;
  }
  if (old.nodeName === "SELECT") {
    if (old.innerHTML !== next.innerHTML) old.replaceChildren(...next.childNodes);
    if (document.activeElement !== old) old.value = next.dataset.value ?? old.value;
    return;
  }
  if (old.nodeName !== "INPUT" && old.nodeName !== "TEXTAREA") morph(old, next);
}
