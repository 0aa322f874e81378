// The models there are, with their prices, from the public list of the API.
const root = document.getElementById("playground");
const MARKUP = 1 + Number(root.dataset.markup);
const PREFERENCES = [
  ["balanced", "cost and time weighed against each other"],
  ["speed", "whoever will finish first"],
  ["cost", "the least predicted cost"],
];

export const AUTO = PREFERENCES.map(([preference, words]) => ({ model: "auto", preference, name: `auto · ${preference}`, words }));
export let models = new Map();
const endpoints = new Map();

export async function load() {
  const answer = await fetch("/api/v1/models");
  const { data } = await answer.json();
  models = new Map(data.map((each) => [each.id, each]));
  for (const each of data) for (const endpoint of each.endpoints) endpoints.set(endpoint.endpoint, endpoint.pricing);
}

/** `auto · speed`, or the model's id. */
export function nameOf(target) {
  return target.model === "auto" ? `auto · ${target.preference}` : target.model;
}

/** Dollars with the plan's mark-up: `$0.66 in, $1.98 out, a million tokens`. */
export function price(model) {
  const million = (text) => {
    const amount = String(Number((Number(text) * 1e6 * MARKUP).toPrecision(6)));
    return `$${/\.\d$/.test(amount) ? `${amount}0` : amount}`;
  };
  return `${million(model.pricing.prompt)} in, ${million(model.pricing.completion)} out, a million tokens`;
}

/** What so many tokens come to at an endpoint, as a number of dollars: a guess, for as long as it runs. */
export function estimate(endpoint, prompt, completion) {
  const rates = endpoints.get(endpoint);
  if (!rates) return null;
  return (prompt * Number(rates.prompt) + completion * Number(rates.completion) + Number(rates.request || 0)) * MARKUP;
}

/** The request's fields that a target honours; null where the selector finds who does. */
export function supported(target) {
  const found = models.get(target.model);
  return found ? new Set(found.supported_parameters) : null;
}
