/** What a token says of itself, and how long it is kept. */

const EARLY_MS = 5_000;
// What a subprotocol may consist of (RFC 9110, 5.6.2); a token goes in one.
const TOKEN = /^[!#$%&'*+\-.^`|~\w]+$/;
const PATIENCE_MS = 60_000; // Somebody may be asked for a password.
// Claims that say when and how a token was made, and not for whom or for what.
const PASSING_CLAIMS = new Set(
  "exp iat nbf jti auth_time nonce at_hash c_hash sid session_state acr amr".split(" "),
);

/** The claims of a token; empty for a text that is none. Nothing is checked: the service does that. */
function claimsOf(token) {
  try {
    const [, payload] = token.split(".");
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return {};
  }
}

/** Rejects after a while, so that a request that hangs is made again. */
const late = () =>
  new Promise((_, reject) => setTimeout(() => reject(new Error("getToken took too long")), PATIENCE_MS));

/** It stays wrong however often it is asked for. What it was is not told: it may hold a token. */
class NoToken extends Error {
  name = "token_invalid";
  isFinal = true;
}

/** Keeps a token until shortly before its end, so that no reconnect asks for one. */
export class Tokens {
  #getToken;
  #pending = null;
  #token = null;
  #goodUntil = 0; // In milliseconds since 1970.

  constructor(getToken) {
    this.#getToken = getToken;
  }

  /** The token; `old`: one that is not good any more. */
  get(old = null) {
    if (this.#token && this.#token !== old && Date.now() < this.#goodUntil) return Promise.resolve(this.#token);
    this.#pending ??= Promise.race([Promise.resolve().then(this.#getToken), late()])
      .then((token) => this.#keep(token))
      .finally(() => (this.#pending = null));
    return this.#pending;
  }

  #keep(token) {
    const text = typeof token === "string" ? token.trim() : token; // A backend may end it with a line.
    if (!text) throw new Error("getToken returned no token");
    if (typeof text !== "string" || !TOKEN.test(text)) throw new NoToken("getToken returned something else");
    this.#token = text;
    this.#goodUntil = (claimsOf(this.#token).exp ?? Infinity) * 1_000 - EARLY_MS;
    // One that is over when it comes tells of a clock that is wrong, more likely ours: the service will say.
    if (this.#goodUntil <= Date.now()) this.#goodUntil = Infinity;
    return this.#token;
  }
}

/** Names whoever a token is for, and what it allows: issuer, tenant, user and the other claims; null for no token. */
export function accountOf(url, token) {
  const claims = Object.entries(claimsOf(token)).filter(([name]) => !PASSING_CLAIMS.has(name));
  if (!claims.length) return null;
  const sorted = claims.sort(([one], [other]) => (one < other ? -1 : 1));
  return `notifier ${fingerprint(JSON.stringify([new URL(url, location.href).href, sorted]))}`;
}

/** 64 bits of FNV-1a, twice 32: it keeps accounts apart, and claims out of storage. */
function fingerprint(text) {
  let [high, low] = [0x811c9dc5, 0xcbf29ce4];
  for (let at = 0; at < text.length; at++) {
    high = Math.imul(high ^ text.charCodeAt(at), 0x01000193);
    low = Math.imul(low ^ text.charCodeAt(text.length - 1 - at), 0x01000193);
  }
  return ((high >>> 0).toString(36) + (low >>> 0).toString(36)).padStart(14, "0");
}
