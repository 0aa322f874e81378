// The conversation as the page shows it: what was asked, and the answers beside one another.
import { WIDTHS } from "./columns.js";
import * as prose from "./prose.js";
import { state } from "./store.js";

const place = document.getElementById("thread");
const root = document.getElementById("playground");

function clone(name) {
  return document.getElementById(name).content.firstElementChild.cloneNode(true);
}

export function turnOf(id) {
  return state.turns.find((each) => each.id === Number(id));
}

export function placeOf(turn) {
  return place.querySelector(`[data-turn="${turn.id}"]`);
}

/** The answers of a turn in the order of the columns; those of columns that are gone are not shown. */
function shown(turn) {
  return state.columns.filter((column) => turn.answers[column.id]);
}

export function render() {
  document.getElementById("empty").hidden = state.turns.length > 0;
  document.getElementById("clear").hidden = state.turns.length === 0;
  place.replaceChildren(...state.turns.map((turn) => {
    const made = clone("t-turn");
    made.dataset.turn = turn.id;
    made.setAttribute("aria-label", `Message: ${turn.text.slice(0, 60)}`);
    prose.show(made.querySelector("[data-text]"), turn.text);
    const columns = shown(turn);
    made.querySelector("[data-answers]").append(...columns.map((column) => {
      const answer = clone("t-answer");
      answer.className = WIDTHS[columns.length];
      answer.dataset.answer = column.id;
      return answer;
    }));
    return made;
  }));
  for (const turn of state.turns) for (const column of shown(turn)) paint(turn, column.id);
}

/** Bring one answer on the page up to what is known of it. */
export function paint(turn, columnId) {
  const made = place.querySelector(`[data-turn="${turn.id}"] [data-answer="${columnId}"]`);
  const answer = turn.answers[columnId];
  if (!made || !answer) return;
  const running = answer.state === "running";
  made.classList.toggle("fl-running", running);
  made.querySelector("article").setAttribute("aria-busy", String(running));
  made.querySelector("[data-name]").textContent = answer.name;
  if (running) made.querySelector("[data-text]").textContent = answer.text.trimStart();
  else prose.show(made.querySelector("[data-text]"), answer.text.trimStart());
  made.querySelector("[data-thoughts]").hidden = !answer.reasoning;
  made.querySelector("[data-reasoning]").textContent = answer.reasoning;
  made.querySelector("[data-act=stop]").hidden = !running;
  for (const act of ["retry", "drop"]) made.querySelector(`[data-act=${act}]`).hidden = running;
  facts(made.querySelector("[data-facts]"), answer);
  failure(made.querySelector("[data-error]"), answer.error);
}

function facts(line, answer) {
  const parts = (answer.facts || []).map((fact, number) => {
    const strong = number === 0 && answer.exact;
    return Object.assign(document.createElement(strong ? "strong" : "span"), { textContent: fact, className: strong ? "" : "text-secondary" });
  });
  if (answer.id && !["running"].includes(answer.state)) {
    parts.push(Object.assign(document.createElement("a"), { className: "text-decoration-underline", href: `${root.dataset.activity}/${answer.id}`, textContent: answer.endpoint ? `${answer.endpoint}: why` : "the call" }));
  }
  line.replaceChildren(...parts.flatMap((part, number) => (number ? [" · ", part] : [part])));
}

function failure(box, error) {
  box.hidden = !error;
  if (!error) return;
  box.querySelector("[data-words]").textContent = error.words;
  const advice = error.link ? Object.assign(document.createElement("a"), { href: error.link, className: "alert-link", textContent: error.advice }) : error.advice;
  box.querySelector("[data-advice]").replaceChildren(advice);
  box.querySelector("[data-type]").textContent = error.type;
}
