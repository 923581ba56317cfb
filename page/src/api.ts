// The daemon's API, asked with the session's cookie.

/** An error as the daemon tells it: what happened, and what to do. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly hint: string) {
    super(message);
  }
}

type Listener = () => void;
const ended = new Set<Listener>();

/** Calls back once the session is over. */
export function onSessionEnd(listener: Listener): () => void {
  ended.add(listener);
  return () => ended.delete(listener);
}

async function ask(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const init: RequestInit = { method, headers: { accept: "application/json" }, credentials: "same-origin" };
  if (signal) init.signal = signal;
  if (method !== "GET") {
    // What another site's page cannot send.
    init.headers = { accept: "application/json", "content-type": "application/json", "x-tallyd-page": "1" };
    if (body !== undefined) init.body = JSON.stringify(body);
  }
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "The daemon does not answer.", "Is it running? This page tries again by itself.");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null) as { error?: { code: string; message: string; hint: string } } | null;
  const { code = "unknown", message = `The daemon answered ${answer.status}.`, hint = "See the daemon's log." } = told?.error ?? {};
  if (answer.status === 401 && path !== "/session") ended.forEach((listener) => listener());
  throw new ApiError(answer.status, code, message, hint);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return await (await ask("GET", path, undefined, signal)).json() as T;
}

export async function send<T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<T> {
  const answer = await ask(method, path, body);
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

/** A path with those parameters that have a value. */
export function url(path: string, parameters: Record<string, string | number | boolean | undefined | null>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}
