// The conversation and the settings, in this tab's sessionStorage and nowhere else.
const root = document.getElementById("playground");
const NAME = `playground:${root.dataset.who}`;

function fresh() {
  return {
    next: 2,
    columns: [{ id: 1, model: "auto", preference: "balanced" }],
    turns: [], // {id, text, answers: {column id: {name, text, reasoning, state, facts, error, body}}}
    settings: {},
    spent: "0", // whole nano-dollars of this tab
  };
}

function read() {
  try {
    const found = JSON.parse(sessionStorage.getItem(NAME));
    if (!found || !Array.isArray(found.columns) || !found.columns.length) return fresh();
    // What was streaming when the page went away has been broken off by that.
    for (const turn of found.turns) for (const answer of Object.values(turn.answers)) if (answer.state === "running") answer.state = "stopped";
    return found;
  } catch {
    return fresh();
  }
}

export const state = read();

export function save() {
  try {
    sessionStorage.setItem(NAME, JSON.stringify(state));
  } catch {
    return; // forbidden or full: the page goes on without it
  }
}

export function newId() {
  state.next += 1;
  return state.next;
}

/** Drop the conversation; models and settings stay. */
export function clear() {
  state.turns = [];
  save();
}
