// The form of settings: what of it goes into a request, and what the chosen models do not take.
import { supported, nameOf } from "./catalog.js";
import { state } from "./store.js";

const form = document.getElementById("parameters");
const fields = [...form.querySelectorAll("[data-param]")];
const system = document.getElementById("p-system");

const READ = {
  number: (field) => (field.value === "" ? undefined : Number(field.value)),
  amount: (field) => field.value.trim().replace(/^\$/, "") || undefined,
  list: (field) => {
    const words = field.value.split(",").map((word) => word.trim()).filter(Boolean);
    return words.length ? words : undefined;
  },
  json: (field) => (field.checked ? { type: "json_object" } : undefined),
  deny: (field) => (field.checked ? "deny" : undefined),
  true: (field) => field.checked || undefined,
};

/** Whether a field of the request can go to this target; bounds and provider rules are the gateway's own. */
function takes(target, name) {
  const known = supported(target);
  return name === "max_cost" || name.startsWith("provider.") || known === null || known.has(name);
}

/** The fields for this target, in the request's shape. */
export function parameters(target) {
  const found = {};
  for (const field of fields) {
    const value = READ[field.dataset.as](field);
    const name = field.dataset.param;
    if (value === undefined || !takes(target, name)) continue;
    const [group, inner] = name.split(".");
    if (inner) found[group] = { ...found[group], [inner]: value };
    else found[name] = value;
  }
  return found;
}

export function systemPrompt() {
  return system.value.trim();
}

/** Show what at least one of the chosen models takes, and say who does not take the rest. */
export function fit() {
  const silent = [];
  for (const place of form.querySelectorAll("[data-for]")) {
    const without = state.columns.filter((target) => !takes(target, place.dataset.for));
    place.hidden = without.length === state.columns.length;
    const field = place.querySelector("[data-param]");
    if (!place.hidden && without.length && READ[field.dataset.as](field) !== undefined) {
      silent.push(`${place.dataset.for} is not sent to ${without.map(nameOf).join(", ")}.`);
    }
  }
  document.getElementById("unsupported").textContent = silent.join(" ");
}

export function remember() {
  const kept = { "p-system": system.value };
  for (const field of fields) kept[field.dataset.param] = field.type === "checkbox" ? field.checked : field.value;
  state.settings = kept;
}

export function restore() {
  system.value = state.settings["p-system"] || "";
  for (const field of fields) {
    const value = state.settings[field.dataset.param];
    if (field.type === "checkbox") field.checked = Boolean(value);
    else if (value) field.value = value;
  }
}
