// Parts that say `data-live="15"` are asked for every so many seconds, while somebody looks at the page and
// is not in the middle of something in them. The server answers 204 when nothing is new.
"use strict";
(function () {
  const asked = new WeakMap();

  function busy(part) {
    return part.querySelector("details[open]") || part.contains(document.activeElement) || part.matches(":hover");
  }

  setInterval(() => {
    if (document.visibilityState !== "visible" || !navigator.onLine) return;
    for (const part of document.querySelectorAll("[data-live]")) {
      const last = asked.get(part) || performance.timeOrigin;
      const now = Date.now();
      if (now - last < 1000 * Number(part.dataset.live) || busy(part)) continue;
      asked.set(part, now);
      window.htmx.trigger(part, "live");
    }
  }, 1000);
})();
