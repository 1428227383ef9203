/* How long a notification takes from its POST to a session, as this browser sees it, and the plot of that. */

const SHOWN_LIMIT = 120;
const KNOWN_LIMIT = 500;
const [WIDTH, HEIGHT] = [240, 60]; // Of the plot's view box.

export class Latency {
  #sentAt = new Map(); // By id, in milliseconds of performance.now(), as all times here.
  #early = new Map(); // What came before the answer to its POST, by id: [{at, liveSince}].
  #measured = []; // In milliseconds, the oldest first.
  #count = 0;

  /** A POST that began at `sentAt` was answered with this id. */
  sent(id, sentAt) {
    remember(this.#sentAt, id, sentAt);
    for (const { at, liveSince } of this.#early.get(id) ?? []) this.#measure(sentAt, at, liveSince);
    this.#early.delete(id);
  }

  /** It came to a session that is live since then. */
  arrived(id, at, liveSince) {
    if (this.#sentAt.has(id)) this.#measure(this.#sentAt.get(id), at, liveSince);
    else remember(this.#early, id, [...(this.#early.get(id) ?? []), { at, liveSince }]);
  }

  /** What was sent to a session that was not there was replayed: that is how long it was away, and no latency. */
  #measure(sentAt, at, liveSince) {
    if (sentAt < liveSince) return;
    this.#count += 1;
    this.#measured = [...this.#measured, at - sentAt].slice(-SHOWN_LIMIT);
    this.#draw();
  }

  #draw() {
    const [p50, p99] = [this.#quantile(0.5), this.#quantile(0.99)];
    const y = (ms) => (HEIGHT - (Math.min(ms, p99) / (p99 * 1.1)) * HEIGHT).toFixed(1);
    const x = (at) => (WIDTH - (this.#measured.length - at - 0.5) * (WIDTH / SHOWN_LIMIT)).toFixed(1);
    const plot = document.getElementById("plot");
    plot.querySelector(".each").setAttribute("d", this.#measured.map((ms, at) => `M${x(at)} ${HEIGHT}V${y(ms)}`).join(""));
    plot.querySelector(".median").setAttribute("d", `M0 ${y(p50)}H${WIDTH}`);
    const texts = { p50: inWords(p50), p99: inWords(p99), measured: String(this.#count) };
    for (const [id, text] of Object.entries(texts)) document.getElementById(id).textContent = text;
    plot.setAttribute("aria-label", `Latencies: half within ${texts.p50}, 99 of 100 within ${texts.p99}`);
  }

  #quantile(share) {
    const sorted = this.#measured.toSorted((one, other) => one - other);
    return sorted[Math.ceil(share * sorted.length) - 1];
  }
}

const inWords = (ms) => `${ms.toFixed(ms < 100 ? 1 : 0)} ms`;

function remember(map, key, value) {
  map.set(key, value);
  if (map.size > KNOWN_LIMIT) map.delete(map.keys().next().value);
}
