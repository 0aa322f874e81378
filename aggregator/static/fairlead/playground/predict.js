// Before it is sent: which endpoint a message would go to, and what it would cost there.
import { post } from "../stream.js";
import { predictionOf } from "./columns.js";
import { bodyOf, withKey } from "./run.js";
import { state } from "./store.js";
import { explain } from "./words.js";

const QUIET_MS = 500;
let timer = 0;
let control = new AbortController();

/** Ask anew once the typing pauses. */
export function soon(text) {
  clearTimeout(timer);
  timer = setTimeout(() => now(text()), QUIET_MS);
}

function now(text) {
  control.abort();
  control = new AbortController();
  for (const column of state.columns) if (!text.trim()) say(column, "");
  if (text.trim()) for (const column of state.columns) predict(column, text, control.signal);
}

function say(column, words, title = "") {
  const place = predictionOf(column.id);
  if (!place) return;
  place.textContent = words;
  place.title = title;
}

async function predict(column, text, signal) {
  const body = bodyOf(column, [...state.turns, { text, answers: {} }]);
  try {
    const answer = await withKey((key) => post("/api/v1/route", key, body, signal));
    const found = await answer.json();
    say(column, `${found.endpoint}, about $${short(found.cost)} and ${found.seconds.toFixed(1)} s; at most $${short(found.cost_most)}`, found.reason);
  } catch (error) {
    if (!signal.aborted) say(column, explain(error).words);
  }
}

/** A prediction has three digits that mean something. */
function short(text) {
  const amount = Number(text);
  const plain = amount.toFixed(9).replace(/0+$/, "").replace(/\.$/, "");
  return amount >= 0.001 ? String(Number(amount.toPrecision(3))) : plain.slice(0, plain.search(/[1-9]/) + 3).replace(/0+$/, "");
}
