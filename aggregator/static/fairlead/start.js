// The first call, streamed on the page of first steps with the key that lies there.
import { call, usd } from "./stream.js";

function key() {
  const field = document.getElementById("new-key");
  return field ? field.value.trim() : "";
}

function show(id, text) {
  const place = document.getElementById(id);
  place.hidden = !text;
  place.querySelector("[data-text]").textContent = text;
  return place;
}

async function run(form) {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  button.classList.add("btn-loading");
  show("first-failed", "");
  const place = show("first-answer", "…");
  const [text, facts] = [place.querySelector("[data-text]"), place.querySelector("[data-facts]")];
  facts.textContent = "";
  let said = "";
  try {
    const messages = [{ role: "user", content: form.querySelector("textarea").value }];
    const result = await call(key(), { model: form.dataset.model || "auto", messages, max_tokens: 200 }, {
      text: (piece) => { said += piece; text.textContent = said; },
    });
    facts.textContent = `${result.usage.completion_tokens} tokens in ${(result.seconds / 1000).toFixed(2)} s, ${usd(result.usage.cost_nanos)}`;
    document.getElementById("said").textContent = "The answer is complete.";
  } catch (error) {
    if (!said) place.hidden = true;
    show("first-failed", error.type === undefined ? "The server could not be reached." : error.message);
  } finally {
    button.disabled = false;
    button.classList.remove("btn-loading");
    window.htmx.trigger("#seen", "look");
  }
}

document.addEventListener("submit", (event) => {
  if (event.target.id !== "first-call") return;
  event.preventDefault();
  run(event.target);
});

// A pasted key works like one just made.
document.addEventListener("input", (event) => {
  if (event.target.id === "new-key") document.querySelector("#first-call button[type=submit]").disabled = !key();
});

// After a key is made, the next thing to do has the focus.
document.addEventListener("htmx:afterSettle", () => {
  const field = document.getElementById("new-key");
  if (field && field.readOnly && document.activeElement === document.body) document.querySelector("#first-call button[type=submit]").focus();
});
