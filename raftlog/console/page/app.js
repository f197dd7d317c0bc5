// The frame round the screens: where one is, what is wrong, and whether what is shown is true now.
import { html, render } from "./core.js";
import { span } from "./format.js";
import { start } from "./live.js";
import { giveToken } from "./login.js";
import { Dialog, Form, Word } from "./parts.js";
import { change, isDev, onChange, store } from "./store.js";
import { screenOf, SCREENS } from "./screens.js";
import { DevBanner, troubles } from "./faults.js";

const THEMES = ["auto", "light", "dark"];

function route() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const decode = (part) => { try { return decodeURIComponent(part); } catch { return part; } };
  change(() => {
    store.route = { path: path.split("/").map(decode), query: new URLSearchParams(search) };
    store.word = null;
  });
}

function verdict() {
  const { cluster, link } = store;
  if (!cluster) return { kind: "", sign: "…", text: "asking" };
  const problems = cluster.problems ?? [];
  if (link === "reconnecting") return { kind: "warn", sign: "△", text: "unknown now" };
  const faults = isDev() && store.dev ? troubles(store.dev) : [];
  if (problems.length === 0 && faults.length) return { kind: "warn", sign: "△", text: faults.length === 1 ? faults[0] : `${faults.length} faults are played` };
  if (problems.length === 0) return { kind: "good", sign: "✓", text: "healthy" };
  return { kind: "bad", sign: "△", text: problems.length === 1 ? problems[0] : `${problems.length} problems` };
}

function Top() {
  const { kind, sign, text } = verdict();
  const isLive = store.link === "live";
  const age = store.heardAt ? (Date.now() - store.heardAt) / 1000 : null;
  const next = THEMES[(THEMES.indexOf(store.theme) + 1) % THEMES.length];
  return html`<header class="top">
    <a class="brand" href="#/"><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9" fill="currentColor" />
      <g class="dot"><circle cx="16" cy="9.5" r="4" /><circle cx="8.8" cy="22" r="4" /><circle cx="23.2" cy="22" r="4" /></g></svg>raftlog</a>
    <code class="dim id">${store.cluster?.cluster_id ?? ""}</code>
    <a class=${`pill ${kind}`} href="#/" title=${text}><span aria-hidden="true">${sign}</span>${text.length > 46 ? `${text.slice(0, 45)}…` : text}</a>
    <span class="grow"></span>
    <span class=${`pill ${isLive ? "" : "warn"}`} role="status"><span aria-hidden="true" class=${isLive ? "good" : ""}>${isLive ? "●" : "○"}</span>
      ${isLive || age === null ? store.link : `reconnecting · figures of ${span(age)} ago`}</span>
    ${isDev() && html`<span class="pill accent optional">dev mode</span>`}
    ${store.about?.read_only && html`<span class="pill warn optional">read only</span>`}
    ${store.about?.role === "viewer" && html`<span class="pill optional">viewer</span>`}
    <button type="button" aria-label=${`theme: ${store.theme}; switch to ${next}`} onClick=${() => setTheme(next)}>${store.theme}</button>
  </header>`;
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("raftlog-theme", theme); } catch { /* it holds until the page is left */ }
  change(() => { store.theme = theme; });
}

function Nav({ current }) {
  return html`<nav class="nav" aria-label="screens"><ul>
    ${SCREENS.filter((screen) => !screen.dev || isDev()).map(({ path, name, icon, count }) => html`<li>
      <a href=${`#/${path}`} aria-current=${path === current ? "page" : undefined}>
        <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${icon} /></svg>
        ${name}<span class="count">${store.cluster && count ? count(store.cluster) : ""}</span></a></li>`)}
  </ul></nav>`;
}

const Login = () => html`<${Dialog} title="This broker asks for a token">
  <${Form} action="Go on" send=${(form) => giveToken(String(form.get("token")))}>
    <p class="dim">It is in the file that <code>raftlog.http.token.file</code> names. What you filled in is kept.</p>
    <label class="field"><span>token</span><input name="token" type="password" autocomplete="off" required autofocus /></label>
    ${store.login.error && html`<p class="error" role="alert">${store.login.error}</p>`}
  <//>
<//>`;

const Refused = () => html`<section class="card"><h1>The console cannot look at this broker</h1>
  <p class="error" role="alert">${store.refused.message}</p><p class="dim">It tries again by itself.</p></section>`;

function App() {
  const screen = screenOf(store.route.path);
  const isStale = store.link === "reconnecting";
  return html`<a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); document.getElementById("content").focus(); }}>to the content</a>
    <${Top} /><${DevBanner} />
    <div class="shell"><${Nav} current=${screen.path} />
      <main id="content" tabindex="-1" class=${isStale ? "stale" : ""}>
        <div class="fresh">${store.refused ? html`<${Refused} />` : store.about && html`<${screen.view} key=${screen.path} route=${store.route} />`}</div>
      </main>
    </div>
    <${Word} />${store.login && html`<${Login} />`}
    <div aria-live="polite">${store.note && html`<div class="toast">${store.note.text}</div>`}</div>`;
}

const root = document.getElementById("app");
root.replaceChildren();
onChange(() => render(html`<${App} />`, root));
addEventListener("hashchange", route);
addEventListener("keydown", (event) => { if (event.key === "Escape" && store.word) change(() => { store.word = null; }); });
route();
start();
