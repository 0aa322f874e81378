// Who is asked: one to four targets side by side, each `auto` with a preference or a model by name.
import { AUTO, models, nameOf, price } from "./catalog.js";
import { newId, state } from "./store.js";

const MOST = 4;
const MOST_LISTED = 60;
const MODEL = /^[\w.-]+\/[\w.:-]+$/;
export const WIDTHS = ["col-12", "col-12", "col-md-6", "col-md-6 col-xl-4", "col-md-6 col-xxl-3"];

const place = document.getElementById("columns");
let changed = () => {};

/** `then` is called after every change of who is asked. */
export function begin(then) {
  changed = then;
  render();
}

export function columnOf(id) {
  return state.columns.find((each) => each.id === Number(id));
}

/** Where the prediction for a column is written. */
export function predictionOf(id) {
  return place.querySelector(`[data-column="${id}"] [data-prediction]`);
}

function clone(name) {
  return document.getElementById(name).content.firstElementChild.cloneNode(true);
}

export function render() {
  place.replaceChildren(...state.columns.map(card));
  if (state.columns.length < MOST) {
    const add = clone("t-add");
    add.querySelector("button").addEventListener("click", () => choose(() => {
      const used = new Set(state.columns.map(nameOf));
      const next = AUTO.find((each) => !used.has(each.name)) || AUTO[0];
      state.columns.push({ id: newId(), model: next.model, preference: next.preference });
    }, () => place.querySelector("[data-column]:nth-last-child(2) .dropdown-toggle")));
    place.append(add);
  }
}

function choose(change, focus) {
  change();
  render();
  changed();
  const next = focus && focus();
  if (next) next.focus();
}

function card(column) {
  const made = clone("t-column");
  made.className = WIDTHS[state.columns.length];
  made.dataset.column = column.id;
  const toggle = made.querySelector(".dropdown-toggle");
  made.querySelector("[data-name]").textContent = nameOf(column);
  toggle.setAttribute("aria-label", `Model: ${nameOf(column)}. Change it`);
  const remove = made.querySelector("[data-act=remove-column]");
  remove.hidden = state.columns.length === 1;
  remove.setAttribute("aria-label", `Ask ${nameOf(column)} no more`);
  remove.addEventListener("click", () => choose(() => { state.columns = state.columns.filter((each) => each !== column); }, () => place.querySelector(".dropdown-toggle")));
  picker(made, column);
  return made;
}

function picker(made, column) {
  const search = made.querySelector("input[type=search]");
  const list = made.querySelector("[data-list]");
  search.id = `search-${column.id}`;
  made.querySelector(".dropdown-menu label").htmlFor = search.id;
  search.addEventListener("input", () => fill(list, search.value, column));
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      const first = list.querySelector("button");
      if (first) first.click();
    }
  });
  made.querySelector(".dropdown").addEventListener("shown.bs.dropdown", () => {
    search.value = "";
    fill(list, "", column);
    search.focus();
  });
}

/** The `auto` preferences, then the models in which every word of the search occurs. */
function fill(list, text, column) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (...said) => words.every((word) => said.join(" ").toLowerCase().includes(word));
  const found = [...models.values()].filter((each) => fits(each.id, each.name, each.class));
  const items = [
    ...AUTO.filter((each) => fits(each.name, each.words)).map((each) => item(each.name, each.words, column, each)),
    ...found.slice(0, MOST_LISTED).map((each) => item(each.id, price(each), column, { model: each.id, preference: "" })),
  ];
  if (MODEL.test(text.trim()) && !models.has(text.trim())) {
    items.push(item(text.trim(), "as written: in no list, or a variant", column, { model: text.trim(), preference: "" }));
  }
  list.replaceChildren(...items);
  const more = found.length - MOST_LISTED;
  const note = !items.length ? "No model has all of these words." : more > 0 ? `${more} more: search for them.` : "";
  if (note) list.append(Object.assign(document.createElement("p"), { className: "text-secondary small px-2 py-1 mb-0", textContent: note }));
}

function item(name, words, column, target) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "dropdown-item d-block" });
  const chosen = name === nameOf(column);
  if (chosen) button.setAttribute("aria-current", "true");
  button.classList.toggle("fw-bold", chosen);
  button.append(
    Object.assign(document.createElement("span"), { className: "d-block text-truncate", textContent: name }),
    Object.assign(document.createElement("span"), { className: "d-block small text-truncate", textContent: words }),
  );
  button.addEventListener("click", () => choose(
    () => Object.assign(column, { model: target.model, preference: target.preference }),
    () => place.querySelector(`[data-column="${column.id}"] .dropdown-toggle`),
  ));
  return button;
}
