// Copy buttons, times in the reader's zone, and a word when a request did not get through.
// Pages work without this file.
"use strict";
(function () {
  function say(text) {
    const place = document.getElementById("said");
    if (place) place.textContent = text;
  }

  async function write(text, source) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    // Without a secure context the browser offers only the older way.
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.className = "position-fixed top-0 opacity-0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    source.focus();
    return done;
  }

  async function copy(button) {
    const source = document.querySelector(button.dataset.copy);
    const label = button.querySelector("[data-copy-label]");
    let done = false;
    try {
      done = await write(source.value === undefined ? source.textContent.trim() : source.value, button);
    } catch {
      done = false;
    }
    const word = done ? "Copied" : "Press Ctrl+C to copy";
    if (!done && source.select) source.select();
    say(word);
    if (label) {
      const before = label.dataset.before || label.textContent;
      label.dataset.before = before;
      label.textContent = word;
      setTimeout(() => { label.textContent = before; }, 2000);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  // A time is sent in UTC; its title keeps that.
  const zoned = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  function localise(root) {
    for (const time of root.querySelectorAll("time[data-when]")) {
      time.textContent = zoned.format(new Date(time.dateTime));
      time.removeAttribute("data-when");
    }
  }
  document.addEventListener("DOMContentLoaded", () => localise(document));
  document.addEventListener("htmx:load", (event) => localise(event.target));

  function failed(event) {
    const notice = document.getElementById("request-failed");
    if (!notice) return;
    const status = event.detail.xhr && event.detail.xhr.status;
    notice.querySelector("[data-reason]").textContent = status
      ? `The server answered ${status}.`
      : "The server could not be reached.";
    notice.classList.remove("d-none");
    notice.focus();
  }
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:timeout", failed);
  document.addEventListener("htmx:beforeRequest", () => {
    const notice = document.getElementById("request-failed");
    if (notice) notice.classList.add("d-none");
  });
})();
