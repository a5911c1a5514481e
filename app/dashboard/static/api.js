// The service over HTTP. Who has signed in is in a cookie that no script can read.

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function send(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {cache: "no-store", credentials: "same-origin", ...options});
  } catch {
    throw new Refused(0, "the service does not answer");
  }
  return {status: answer.status, text: await answer.text()};
}

function explain(body, status) {
  const {detail} = body ?? {};
  if (Array.isArray(detail)) return detail.map(({field, msg, expected}) => `${field}: ${msg}, expected ${expected}`).join("; ");
  return detail === undefined ? `the service answered ${status}` : String(detail);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's error page is not JSON; the status says enough
  }
}

// JSON; a service that is not ready answers 503 and says why, which is data too: such statuses go into `also`.
export async function get(path, query = {}, also = []) {
  const known = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const text = new URLSearchParams(known).toString();
  const answer = await send(text ? `${path}?${text}` : path);
  const body = parse(answer.text);
  if (answer.status !== 200 && !also.includes(answer.status)) throw new Refused(answer.status, explain(body, answer.status));
  return body;
}

// The same, or null where the service does not have it, or the key may not read it.
export async function getIfThere(path, query = {}) {
  try {
    return await get(path, query);
  } catch (error) {
    if (error instanceof Refused && [403, 404, 405].includes(error.status)) return null;
    throw error;
  }
}

export async function getText(path) {
  const {status, text} = await send(path, {headers: {accept: "text/plain"}});
  if (status !== 200) throw new Refused(status, explain(parse(text), status));
  return text;
}

export async function act(method, path, body) {
  const options = {method};
  if (body !== undefined) {
    options.headers = {"content-type": "application/json"};
    options.body = JSON.stringify(body);
  }
  const answer = await send(path, options);
  const found = parse(answer.text);
  if (answer.status >= 300) throw new Refused(answer.status, explain(found, answer.status));
  return found;
}

export const part = encodeURIComponent;
