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

/** Sends a request; returns the answer's JSON. */
export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      headers: {
        Authorization: `Bearer ${sessionStorage.getItem(STORED)}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    // Also a key with characters that no header can have.
    throw new Problem(error instanceof TypeError && /header|ISO-8859-1/i.test(error.message) ? 401 : 0, error.message);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer.detail ?? response.statusText);
  return answer;
}

/** An id as a part of a path. */
export const quoted = (id) => encodeURIComponent(id);

/** An id that nothing else has. */
export function newId(bytes = 16) {
  // crypto.randomUUID is missing on pages without TLS that are not on this machine.
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((each) => each.toString(16).padStart(2, "0")).join("");
}
