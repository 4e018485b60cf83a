// The service's interface, and the key for it.

const BASE = new URL("../v1/", import.meta.url);
const STORED = "babelrec.key";

/** What the service refused, or that it can't be reached (status 0). */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Takes a key out of the address, where it would stay in the browser's history. */
export function takeKey() {
  const given = /^#key=(.+)$/.exec(location.hash);
  if (!given) return;
  setKey(decodeURIComponent(given[1]));
  history.replaceState(null, "", location.pathname + location.search);
}

export const hasKey = () => Boolean(sessionStorage.getItem(STORED));
export const setKey = (key) => sessionStorage.setItem(STORED, key.trim());
export const forgetKey = () => sessionStorage.removeItem(STORED);

/** Sends a request with a body of a type; returns the response if it is a good one. */
async function send(method, path, body, headers) {
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      headers: { Authorization: `Bearer ${sessionStorage.getItem(STORED)}`, ...headers },
      body,
    });
  } catch (error) {
    // Also a key with characters that no header can have.
    throw new Problem(error instanceof TypeError && /header|ISO-8859-1/i.test(error.message) ? 401 : 0, error.message);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Problem(response.status, answer.detail ?? response.statusText);
}

/** Sends a request; returns the answer's JSON. */
export async function call(method, path, body) {
  const given = body === undefined ? [undefined, {}] : [JSON.stringify(body), { "Content-Type": "application/json" }];
  const response = await send(method, path, ...given);
  return response.json().catch(() => ({}));
}

/** Reads a text, and the tag of its revision. */
export async function readText(path) {
  const response = await send("GET", path);
  return { text: await response.text(), tag: response.headers.get("ETag") };
}

/** Replaces a text in YAML if its revision is still the one of the tag; returns the answer's JSON. */
export async function putText(path, text, tag) {
  const response = await send("PUT", path, text, { "Content-Type": "application/yaml", "If-Match": tag });
  return response.json();
}

/** An id as a part of a path. */
export const quoted = (id) => encodeURIComponent(id);

/** An id that nothing else has. */
export function newId(bytes = 16) {
  // crypto.randomUUID is missing on pages without TLS that are not on this machine.
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((each) => each.toString(16).padStart(2, "0")).join("");
}
