// What is done before any other file is there: it is the first that the page asks for.
(() => {
  // No flash of the other theme. `auto` follows the system.
  let chosen = null;
  try { chosen = localStorage.getItem("raftlog-theme"); } catch { /* no storage: auto */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;

  // A browser drops what is under way when its machine changes networks, and does not ask again. One module that
  // is missing leaves the page empty, so the page is loaded again as soon as the broker answers.
  const RETRY_MS = 1000;
  const ANSWER_MS = 10_000;
  const FOLDER = new URL(".", document.currentScript.src).href;
  let isMissing = false;
  const loadAgain = async () => {
    try {
      if ((await fetch(location.pathname, { signal: AbortSignal.timeout(ANSWER_MS) })).ok) return location.reload();
    } catch { /* nobody answers yet */ }
    setTimeout(loadAgain, RETRY_MS);
  };
  addEventListener("error", ({ target, filename }) => {
    const boot = document.querySelector(".boot");
    const isFile = target instanceof HTMLScriptElement || target instanceof HTMLLinkElement;
    // Files of two versions do not fit together: the window has the error then, and the page has not begun.
    if (isMissing || !(isFile || (boot && filename?.startsWith(FOLDER)))) return;
    isMissing = true;
    if (boot) boot.textContent = "Not all files of this page came. It is loaded again …";
    setTimeout(loadAgain, RETRY_MS);
  }, true);
})();
