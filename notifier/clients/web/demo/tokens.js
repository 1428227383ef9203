/* What the demo page asks of the service: development tokens, which production does not mint for whoever asks. */

// What everyone may follow here, besides the topics that the address names.
const ALLOWED_TOPICS = ["orders.*", "news.#", "user.{sub}.#"];

/** Posts JSON. Throws the problem (RFC 9457) of an answer that is one; `isFinal`: asking again would not help. */
export async function post(path, content, headers = {}) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(content),
  });
  const body = await answer.json();
  if (answer.ok) return body;
  const isFinal = answer.status < 500 && answer.status !== 429;
  throw Object.assign(new Error(`${answer.status} ${body.code}: ${body.detail}`), { isFinal });
}

export class Tokens {
  refusal = null; // Why there was none, the last time; null when there was one.
  #wanted;
  #last = { token: null, goodUntil: 0 };

  constructor({ user, tenant, roles, topics }) {
    this.#wanted = { user, tenant: tenant || null, roles, topics: [...new Set([...topics, ...ALLOWED_TOPICS])] };
  }

  /** A new one: the client asks when it needs that, and for no reconnect. */
  mint = async () => {
    try {
      const { token, expires_in_seconds: seconds } = await post("/demo/token", this.#wanted);
      this.#last = { token, goodUntil: Date.now() + seconds * 1_000 };
      this.refusal = null;
      return token;
    } catch (error) {
      this.refusal = error.message;
      throw error;
    }
  };

  /** One to send with: the last one while it is good. */
  async good() {
    return Date.now() < this.#last.goodUntil ? this.#last.token : this.mint();
  }
}
