// Requests to whoever served this page. Paths are relative, so that a proxy may put it under a path of its own.
import { askForToken } from "./login.js";

const BASE = "api/v1/";
/** For a whole answer. The server may take ten seconds for what it asks of the cluster. */
const ANSWER_MS = 30_000;

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body ?? {});
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path, body) => call("DELETE", path, body ?? {});

/** Ask, once more after a token was asked for: what was filled in stays, and is sent then. */
async function call(method, path, body, isRetry = false) {
  const headers = { Accept: "application/json" };
  const options = { method, headers, signal: AbortSignal.timeout(ANSWER_MS) };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-Raftlog-CSRF"] = "1";
    options.body = JSON.stringify(body);
  }
  let response, text;
  try {
    response = await fetch(BASE + path, options);
    text = await response.text();
  } catch (error) {
    if (error.name !== "TimeoutError") throw new ApiError(0, "UNREACHABLE", "nobody answers");
    throw new ApiError(0, "TIMED_OUT", `no answer within ${ANSWER_MS / 1000} s${method === "GET" ? "" : ": it may be done nevertheless"}`);
  }
  if (response.status === 401 && !isRetry && path !== "session") {
    await askForToken();
    return call(method, path, body, true);
  }
  if (response.status === 204) return null;
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ApiError(response.status, "UNKNOWN", `an answer that is no JSON (${response.status})`);
  }
  if (!response.ok) {
    const error = value.error ?? {};
    throw new ApiError(response.status, error.code ?? "UNKNOWN", error.message ?? response.statusText);
  }
  return value;
}

/** `name=value&…` of what is neither null nor empty. */
export function query(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return pairs.length ? `?${pairs.map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join("&")}` : "";
}

export const url = (path) => BASE + path;
export const segment = encodeURIComponent;
