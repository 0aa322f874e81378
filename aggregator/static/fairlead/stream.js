// One streamed call of our own API: its text as it comes, and what it was, to the nano-dollar, at the end.

/** An error as the API tells it, before the first token or in the middle of an answer. */
export class CallFailed extends Error {
  constructor(error, { status, id = "", retryAfter = "" } = {}) {
    super(error.message || `The server answered ${status}.`);
    this.status = status || error.code || 0;
    this.type = (error.metadata && error.metadata.error_type) || error.type || "";
    this.metadata = error.metadata || {};
    this.id = id;
    this.retryAfter = retryAfter;
  }
}

/** POST a JSON body with a key. Throws CallFailed when the answer is an error. */
export async function post(path, key, body, signal) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (answer.ok) return answer;
  let said = {};
  try {
    said = (await answer.json()).error || {};
  } catch {
    said = {}; // a proxy in between answers in its own way
  }
  throw new CallFailed(said, {
    status: answer.status,
    id: answer.headers.get("X-Generation-Id") || "",
    retryAfter: answer.headers.get("Retry-After") || "",
  });
}

/**
 * Call and listen. `on.start({id, endpoint, reason})` when an endpoint has answered, `on.text(piece)` and
 * `on.reasoning(piece)` as they come. Resolves to {id, endpoint, usage, finish, notice, first, seconds};
 * throws CallFailed, or AbortError when `signal` stopped it.
 */
export async function call(key, body, on, signal) {
  const began = performance.now();
  const answer = await post("/api/v1/chat/completions", key, { ...body, stream: true }, signal);
  const result = {
    id: answer.headers.get("X-Generation-Id") || "",
    endpoint: answer.headers.get("X-Fairlead-Endpoint") || "",
    reason: answer.headers.get("X-Fairlead-Reason") || "",
    usage: null, finish: "", notice: null, first: null, seconds: 0,
  };
  if (on.start) on.start(result);
  for await (const event of events(answer.body)) {
    if (event.error) throw new CallFailed(event.error, { id: result.id });
    if (event.usage) result.usage = event.usage;
    if (event.notice) result.notice = event.notice;
    for (const choice of event.choices || []) {
      const delta = choice.delta || {};
      const thought = delta.reasoning || delta.reasoning_content;
      if ((delta.content || thought) && result.first === null) result.first = performance.now() - began;
      if (thought && on.reasoning) on.reasoning(thought);
      if (delta.content && on.text) on.text(delta.content);
      if (choice.finish_reason) result.finish = choice.finish_reason;
    }
  }
  if (!result.usage) throw new CallFailed({ message: "The answer broke off.", type: "stream_error" }, { id: result.id });
  result.seconds = performance.now() - began;
  return result;
}

/** The JSON of each `data:` line of an event stream, until `[DONE]`. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

/** Whole nano-dollars as dollars, with every digit that they have and cents at least: `$0.0000123`. */
export function usd(nanos) {
  const digits = String(nanos).padStart(10, "0");
  const rest = digits.slice(-9).replace(/0+$/, "").padEnd(2, "0");
  return `$${digits.slice(0, -9)}.${rest}`;
}
