// The key that the playground calls with: asked for when it is needed, kept in this page's memory alone.
import { CallFailed } from "../stream.js";

const EARLY_MS = 60_000; // renewed before it ends, so that no call meets its end

const root = document.getElementById("playground");
let held = null;
let asking = null;

async function send(url, fields) {
  const csrf = root.querySelector("[name=csrfmiddlewaretoken]").value;
  const answer = await fetch(url, { method: "POST", headers: { "X-CSRFToken": csrf }, body: new URLSearchParams(fields) });
  let said = null;
  try {
    said = await answer.json();
  } catch {
    said = { error: { message: "You are not signed in any more. Load the page again.", type: "signed_out" } };
  }
  if (said.error) throw new CallFailed(said.error, { status: answer.status });
  return said;
}

async function ask() {
  const began = performance.now();
  const made = await send(root.dataset.session, {});
  held = { key: made.key, until: began + made.seconds * 1000 - EARLY_MS };
  return held.key;
}

/** The key's text, renewed if its end is near. Throws CallFailed. */
export async function key() {
  if (held && performance.now() < held.until) return held.key;
  asking = asking || ask().finally(() => { asking = null; });
  return asking;
}

/** A key that was refused is asked for anew. */
export function forget() {
  held = null;
}

/** Set what may be spent a day, in dollars; empty is no limit. Throws CallFailed. */
export function limit(usd) {
  return send(root.dataset.limit, { limit: usd });
}
