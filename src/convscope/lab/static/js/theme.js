// Applies the chosen light or dark before anything is painted. Not a module, so that it runs first; the choice is shared with the run's page.
"use strict";

(() => {
  try {
    const chosen = localStorage.getItem("convscope-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // storage may be forbidden: the system's choice holds
  }
})();
