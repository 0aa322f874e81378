// What went wrong, in words, and what a person can do about it.
const root = document.getElementById("playground");

const ADVICE = {
  insufficient_credits: "billing",
  account_suspended: "billing",
  key_limit_exceeded: "Raise what you may spend here a day, under Settings, or lower “Most tokens”.",
  rate_limit_exceeded: "Wait a moment, then answer again.",
  too_many_concurrent: "Your organization has many calls under way. Wait for some of them to end.",
  provider_rate_limited: "The provider is at capacity. Answer again, or let auto choose another.",
  provider_overloaded: "The provider is overloaded. Answer again, or let auto choose another.",
  provider_unavailable: "The provider does not answer. Answer again, or let auto choose another.",
  no_endpoints: "Loosen the rules under Settings, or choose another model.",
  model_not_found: "Choose another model.",
  signed_out: "Load the page again, and sign in.",
};
const BY_STATUS = {
  400: "Change what the message names, then send again.",
  402: "billing",
  429: "Wait a moment, then answer again.",
  503: "This is on our side. Try again in a moment.",
};

/** {words, advice, link, type} of an error. */
export function explain(error) {
  if (error.type === undefined) {
    return { words: "The server could not be reached.", advice: "Look at your connection, then answer again.", link: "", type: "" };
  }
  let advice = ADVICE[error.type] || BY_STATUS[error.status] || "";
  let link = "";
  if (advice === "billing") {
    link = root.dataset.billing;
    advice = link ? "Open the billing page" : "Ask an owner or an admin of your organization.";
  }
  return { words: error.message, advice, link, type: error.type };
}
