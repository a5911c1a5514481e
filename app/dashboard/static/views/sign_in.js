// Sign in with a key; then the reader lands where the link pointed.

import {act} from "../api.js";
import {h} from "../dom.js";
import {navigate} from "../state.js";
import {card, missing} from "../ui.js";

// Only addresses of this service: a link must not send a reader elsewhere. "/.//host" is a path, but one that begins
// with two slashes once it is resolved, and an address that begins so names another host.
function destination(query) {
  const next = query.get("next") ?? "";
  if (!next.startsWith("/") || !URL.canParse(next, location.origin)) return "/dashboard";
  const {origin, pathname, search, hash} = new URL(next, location.origin);
  const ours = origin === location.origin && !pathname.startsWith("//") && !pathname.startsWith("/dashboard/sign-in");
  return ours ? pathname + search + hash : "/dashboard";
}

function leave(query) {
  const target = destination(query);
  if (target.startsWith("/dashboard")) navigate(target, {replace: true});
  else location.replace(target);
}

export async function view({caller, query}) {
  if (!caller.needs_key) return [card("Sign in", {}, missing("No sign-in is needed", "This service has no keys: whoever reaches it may do everything.", "plumbline keys new makes the first key."), h("p", {}, h("a", {href: "/dashboard"}, "Overview")))];
  if (caller.name !== null) {
    leave(query);
    return [h("p", {class: "loading"}, "You are signed in.")];
  }
  const failed = h("p", {class: "failed", role: "alert", "data-key": "failed"});
  const submit = async (event) => {
    event.preventDefault();
    const form = event.target;
    const said = form.querySelector(".failed");
    said.textContent = "";
    try {
      await act("POST", "/dashboard/session", {key: form.elements.key.value.trim()});
      leave(query);
    } catch (error) {
      said.textContent = error.message;
      form.elements.key.select();
    }
  };
  return [h("form", {class: "sign-in card", "data-key": "sign-in", onsubmit: submit}, h("h1", {}, "Sign in"),
    h("p", {}, "This service asks for an API key. It is sent once; the browser keeps a session that ends after twelve hours, and no script can read it."),
    h("label", {class: "field"}, h("span", {}, "API key"), h("input", {type: "password", name: "key", required: true, autocomplete: "current-password", autofocus: true})),
    h("p", {class: "note"}, "With the scope read it shows everything; with admin it also acts."), failed, h("button", {class: "primary"}, "Sign in"))];
}
