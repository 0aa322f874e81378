// Light, dark or as the system has it; set before the first paint, so that nothing flashes.
"use strict";
(function () {
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("theme") || "auto";
    } catch {
      return "auto"; // storage is forbidden: follow the system
    }
  }

  function apply() {
    const theme = chosen();
    const dark = theme === "dark" || (theme === "auto" && system.matches);
    document.documentElement.setAttribute("data-bs-theme", dark ? "dark" : "light");
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      const current = button.dataset.themeChoice === theme;
      button.classList.toggle("active", current);
      button.setAttribute("aria-pressed", String(current));
    }
  }

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", apply);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (!button) return;
    try {
      localStorage.setItem("theme", button.dataset.themeChoice);
    } catch {
      return;
    }
    apply();
  });
})();
