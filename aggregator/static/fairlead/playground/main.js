// The playground put together: what a person does, and what follows from it.
import { usd } from "../stream.js";
import * as catalog from "./catalog.js";
import * as code from "./code.js";
import * as columns from "./columns.js";
import * as predict from "./predict.js";
import { isRunning, run, stop } from "./run.js";
import * as session from "./session.js";
import * as settings from "./settings.js";
import { clear, newId, save, state } from "./store.js";
import { explain } from "./words.js";
import * as thread from "./thread.js";

const NARROW = "(max-width: 991.98px)";

const root = document.getElementById("playground");
const prompt = document.getElementById("prompt");
const said = document.getElementById("said");
let editing = null;

function refresh() {
  document.getElementById("stop").hidden = !isRunning();
  document.getElementById("send").disabled = isRunning();
  const note = document.getElementById("editing");
  note.classList.toggle("d-none", editing === null);
  note.classList.toggle("d-flex", editing !== null);
  document.getElementById("spent").textContent = state.spent === "0" ? "" : `${usd(state.spent)} spent in this tab`;
}

function changed() {
  settings.fit();
  settings.remember();
  save();
  predict.soon(() => prompt.value);
}

/** Ask every column, or one, for the answer of a turn; tell once when all have ended. */
async function answer(turn, targets) {
  const asked = targets.map((target) => run(turn, target));
  thread.render();
  refresh();
  const answers = await Promise.all(asked);
  refresh();
  said.textContent = answers.map((each) => `${each.name}: ${each.state === "done" ? "the answer is complete" : each.state}, ${each.facts[0]}.`).join(" ");
}

function send() {
  const text = prompt.value.trim();
  if (!text || isRunning()) return;
  if (editing !== null) state.turns.length = Math.max(state.turns.findIndex((turn) => turn.id === editing), 0);
  editing = null;
  prompt.value = "";
  const turn = { id: newId(), text, answers: {} };
  state.turns.push(turn);
  answer(turn, state.columns);
  predict.soon(() => prompt.value);
  thread.placeOf(turn).scrollIntoView({ block: "start" });
}

const ACTS = {
  edit(turn) {
    editing = turn.id;
    prompt.value = turn.text;
    prompt.focus();
  },
  delete(turn) {
    for (const column of state.columns) stop(turn.id, column.id);
    state.turns = state.turns.filter((each) => each !== turn);
    if (editing === turn.id) editing = null;
    thread.render();
    prompt.focus();
  },
  retry(turn, column) {
    answer(turn, [columns.columnOf(column)]);
  },
  drop(turn, column) {
    delete turn.answers[column];
    thread.render();
    prompt.focus();
  },
  stop: (turn, column) => stop(turn.id, Number(column)),
  code: (turn, column) => code.fill(root.dataset.base, turn.answers[column].body),
};

document.getElementById("thread").addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const part = button.closest("[data-answer]");
  ACTS[button.dataset.act](thread.turnOf(button.closest("[data-turn]").dataset.turn), part && part.dataset.answer);
  refresh();
  save();
});

document.getElementById("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

document.querySelector("[data-act=cancel-edit]").addEventListener("click", () => {
  editing = null;
  prompt.value = "";
  refresh();
  prompt.focus();
});

document.getElementById("stop").addEventListener("click", () => {
  stop();
  prompt.focus();
});

document.getElementById("clear").addEventListener("click", () => {
  stop();
  editing = null;
  clear();
  thread.render();
  refresh();
  prompt.focus();
});

document.getElementById("empty").addEventListener("click", (event) => {
  const words = event.target.closest("[data-suggest]");
  if (!words) return;
  prompt.value = words.dataset.suggest;
  prompt.focus();
  predict.soon(() => prompt.value);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === prompt) {
    event.preventDefault();
    send();
  }
  const inOverlay = event.target.closest && event.target.closest(".dropdown-menu, .modal");
  if (event.key === "Escape" && !inOverlay && isRunning()) stop();
});

prompt.addEventListener("input", () => predict.soon(() => prompt.value));
document.getElementById("parameters").addEventListener("input", changed);
document.getElementById("parameters").addEventListener("submit", (event) => event.preventDefault());

document.getElementById("limit").addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = document.getElementById("limit-said");
  try {
    const { limit } = await session.limit(document.getElementById("limit-usd").value);
    place.textContent = limit ? `Set: $${limit} a day from now on.` : "Set: no limit but the wallet.";
  } catch (error) {
    place.textContent = explain(error).words;
  }
});

/** A model that the address names is the one asked. */
function takeWanted() {
  const wanted = root.dataset.wanted;
  if (!wanted) return;
  const preference = wanted.startsWith("auto") ? catalog.AUTO.find((each) => wanted === `auto:${each.preference}`) || catalog.AUTO[0] : null;
  if (preference) Object.assign(state.columns[0], { model: "auto", preference: preference.preference });
  else if (wanted.includes("/")) Object.assign(state.columns[0], { model: wanted, preference: "" });
}

async function begin() {
  settings.restore();
  if (matchMedia(NARROW).matches) document.getElementById("settings").open = false;
  root.hidden = false;
  thread.render();
  refresh();
  try {
    await catalog.load();
  } catch {
    said.textContent = "The list of models could not be read.";
  }
  takeWanted();
  columns.begin(() => { thread.render(); changed(); });
  settings.fit();
  prompt.focus();
}

begin();
