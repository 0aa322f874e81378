// One answer: asked for, streamed in, broken off, and what it cost to the nano-dollar.
import { call, usd } from "../stream.js";
import { estimate, nameOf } from "./catalog.js";
import * as session from "./session.js";
import { parameters, systemPrompt } from "./settings.js";
import { save, state } from "./store.js";
import { paint } from "./thread.js";
import { explain } from "./words.js";

const STALE = new Set(["expired_key", "revoked_key", "unknown_key"]);
const RECEIPT_TRIES = 8;
const RECEIPT_WAIT_MS = 250;
const running = new Map(); // "turn/column" → AbortController

export const isRunning = () => running.size > 0;

/** The request for this turn of this column: everything said before, to whom, with what settings. */
export function bodyOf(target, turns) {
  const messages = [];
  const system = systemPrompt();
  if (system) messages.push({ role: "system", content: system });
  turns.forEach((turn, number) => {
    messages.push({ role: "user", content: turn.text });
    const answer = turn.answers[target.id];
    if (number < turns.length - 1 && answer && answer.text) messages.push({ role: "assistant", content: answer.text });
  });
  const preference = target.preference ? { route_preference: target.preference } : {};
  return { model: target.model, ...preference, messages, stream: true, ...parameters(target) };
}

/** Use a key that works: one that has ended in the meantime is renewed once. */
export async function withKey(use) {
  try {
    return await use(await session.key());
  } catch (error) {
    if (!STALE.has(error.type)) throw error;
    session.forget();
    return use(await session.key());
  }
}

export function stop(turnId, columnId) {
  for (const [name, control] of running) if (turnId === undefined || name === `${turnId}/${columnId}`) control.abort();
}

/** Ask `target` for the answer of a turn. Resolves when it has ended, however it ended. */
export async function run(turn, target) {
  const control = new AbortController();
  const name = `${turn.id}/${target.id}`;
  const body = bodyOf(target, state.turns.slice(0, state.turns.indexOf(turn) + 1));
  const answer = { name: nameOf(target), text: "", reasoning: "", state: "running", facts: [], error: null, body, id: "", endpoint: "", exact: false };
  turn.answers[target.id] = answer;
  running.set(name, control);
  const watch = follow(turn, target, answer, body);
  try {
    const result = await withKey((key) => call(key, body, {
      start: (known) => { answer.id = known.id; answer.endpoint = known.endpoint; watch.note(); },
      text: (piece) => { answer.text += piece; watch.note(); },
      reasoning: (piece) => { answer.reasoning += piece; watch.note(); },
    }, control.signal));
    answer.state = "done";
    finished(answer, result);
  } catch (error) {
    answer.id = answer.id || error.id || "";
    answer.state = control.signal.aborted ? "stopped" : "failed";
    if (!control.signal.aborted) answer.error = explain(error);
    answer.facts = [control.signal.aborted ? "Stopped" : "Failed"];
    if (answer.id) await receipt(answer);
  } finally {
    running.delete(name);
    watch.end();
    paint(turn, target.id);
    save();
  }
  return answer;
}

/** Paint at most once a frame, with a cost that is a guess and says so. */
function follow(turn, target, answer, body) {
  const began = performance.now();
  const prompt = JSON.stringify(body.messages).length / 4;
  let frame = 0;
  function draw() {
    frame = 0;
    const tokens = Math.ceil((answer.text.length + answer.reasoning.length) / 4);
    const cost = estimate(answer.endpoint, prompt, tokens);
    const seconds = (performance.now() - began) / 1000;
    answer.facts = [cost === null ? "" : `about $${cost.toPrecision(2)} so far (estimate)`, `about ${tokens} tokens`, `${seconds.toFixed(1)} s`, answer.endpoint].filter(Boolean);
    paint(turn, target.id);
  }
  draw();
  return {
    note() { if (!frame) frame = requestAnimationFrame(draw); },
    end() { cancelAnimationFrame(frame); },
  };
}

function finished(answer, result) {
  const { usage } = result;
  const writing = (result.seconds - (result.first || 0)) / 1000;
  const pace = writing > 0.05 ? `${Math.round(usage.completion_tokens / writing)} tokens a second` : "";
  answer.endpoint = result.endpoint;
  charged(answer, usage.cost_nanos);
  answer.facts = [
    usd(usage.cost_nanos),
    `${usage.prompt_tokens} in, ${usage.completion_tokens} out`,
    result.first === null ? "" : `first token ${(result.first / 1000).toFixed(2)} s`,
    pace,
    result.finish === "length" ? "cut at its bound" : "",
    result.notice ? result.notice.message : "",
  ].filter(Boolean);
}

function charged(answer, nanos) {
  answer.exact = true;
  state.spent = String(BigInt(state.spent) + BigInt(nanos));
}

/** What a call that did not end by itself was charged. Its record is on its way for a moment. */
async function receipt(answer) {
  for (let tries = 0; tries < RECEIPT_TRIES; tries += 1) {
    await new Promise((resolve) => { setTimeout(resolve, RECEIPT_WAIT_MS); });
    try {
      const said = await fetch(`/api/v1/generation?id=${answer.id}`, { headers: { Authorization: `Bearer ${await session.key()}` } });
      if (!said.ok) continue;
      const { data } = await said.json();
      charged(answer, data.cost_nanos);
      answer.facts = [usd(data.cost_nanos), answer.state === "stopped" ? "stopped: charged until then" : data.cost_nanos ? "charged until it failed" : "failed: free"];
      return;
    } catch {
      return; // the call is in the activity all the same
    }
  }
}
