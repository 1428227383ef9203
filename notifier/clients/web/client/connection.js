/**
 * One connection to the service, over WebSocket or, where that is blocked, over SSE.
 *
 * Either tells `hear` each frame, and `part` once, when it has ended by itself: with a close code, a reason, and how long
 * the service wants us to wait, in milliseconds.
 */

const CODE_OF_STATUS = { 400: 4400, 401: 4402, 403: 4403, 422: 4400, 429: 4004, 503: 4005 };
export const LOST = 1006;

/** The address of a door, with what a session begins with. */
function address(url, path, { position, topics }) {
  const door = new URL(path, new URL(url.endsWith("/") ? url : `${url}/`, location.href));
  if (topics.length) door.searchParams.set("topics", topics.join(","));
  if (position) door.searchParams.set("position", position);
  return door;
}

export class SocketConnection {
  static canSay = true;
  #socket;

  constructor({ url, token, hear, part, ...start }) {
    const door = address(url, "ws", start);
    door.protocol = door.protocol.replace("http", "ws");
    this.#socket = new WebSocket(door, ["notifier.v1", `bearer.${token}`]);
    this.#socket.onmessage = ({ data }) => hear(JSON.parse(data));
    this.#socket.onclose = ({ code, reason }) => part({ code, reason });
  }

  say(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  leave() {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

export class StreamConnection {
  static canSay = false; // Another token, or other topics, need another connection.
  #abort = new AbortController();

  constructor({ url, token, hear, part, ...start }) {
    this.#run(address(url, "events", start), token, hear).then(
      (end) => this.#abort.signal.aborted || part(end),
      (error) => this.#abort.signal.aborted || part({ code: LOST, reason: String(error) }),
    );
  }

  leave() {
    this.#abort.abort();
  }

  async #run(door, token, hear) {
    const answer = await fetch(door, {
      headers: { Authorization: `Bearer ${token}`, Accept: "text/event-stream" },
      cache: "no-store",
      credentials: "omit",
      signal: this.#abort.signal,
    });
    if (!answer.ok) return refusal(answer);
    let end = { code: LOST, reason: "stream ended" };
    let rest = "";
    for await (const text of texts(answer.body)) {
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const frame = read(block);
        // A stream has no close codes, and says with its last words what a socket would have closed with.
        if (frame?.close_code) end = { code: frame.close_code, reason: frame.code };
        else if (frame) hear(frame);
      }
    }
    return end;
  }
}

async function* texts(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

/** The frame in one block of an event stream. One with an id alone is a heartbeat; one with neither says nothing. */
function read(block) {
  const fields = block.split("\n").map((line) => /^(\w+): ?(.*)$/.exec(line));
  const of = (name) => fields.filter((field) => field?.[1] === name).map((field) => field[2]);
  const [position] = of("id");
  const data = of("data").join("\n");
  if (data) return JSON.parse(data);
  return position ? { type: "heartbeat", position } : null;
}

async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  const after = Number(answer.headers.get("Retry-After"));
  const code = problem.code === "token_expired" ? 4401 : (CODE_OF_STATUS[answer.status] ?? LOST);
  return { code, reason: problem.code ?? `HTTP ${answer.status}`, afterMs: after ? after * 1_000 : null };
}
