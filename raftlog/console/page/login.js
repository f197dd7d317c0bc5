// Asks for a token when the broker does. One question, however many requests wait for its answer.
import { change, store } from "./store.js";

let waiting = null;

export function askForToken() {
  if (!waiting) {
    waiting = { done: [] };
    change(() => { store.login = { error: "" }; });
  }
  return new Promise((resolve, reject) => waiting.done.push({ resolve, reject }));
}

export async function giveToken(token) {
  const { post } = await import("./api.js");
  try {
    await post("session", { token });
  } catch (error) {
    change(() => { store.login = { error: error.message }; });
    return;
  }
  const { done } = waiting ?? { done: [] };
  waiting = null;
  change(() => { store.login = null; });
  for (const one of done) one.resolve();
}
