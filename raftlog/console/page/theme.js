// Before anything is drawn: no flash of the other theme. `auto` follows the system.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("raftlog-theme"); } catch { /* no storage: auto */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
