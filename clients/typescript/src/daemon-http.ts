// The daemon's HTTP API: one request with a time limit, and errors with the daemon's message and hint.

/** Time limit of one request, in milliseconds. */
const REQUEST_TIMEOUT = 20_000;

/** A refusal, by the daemon or by a proxy in front of it: the HTTP status, and a message with the daemon's hint. */
export class HttpError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
    this.name = "HttpError";
  }
}

export class DaemonHttp {
  readonly #url: string;
  readonly #token: string | undefined;

  constructor(url: string, token: string | undefined) {
    this.#url = url.replace(/\/$/, "");
    this.#token = token;
  }

  /** Sends a request, and resolves to the answer's JSON. Rejects with {@link HttpError} for a refusal, else with fetch's error. */
  async ask<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = {};
    if (this.#token) headers["authorization"] = `Bearer ${this.#token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT);
    const answer = await fetch(this.#url + path, { method, headers, signal, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const text = await answer.text();
    if (answer.ok) return JSON.parse(text) as T;
    throw new HttpError(answer.status, `tallyd answered ${answer.status} to ${method} ${path}: ${reason(text)}`);
  }
}

function reason(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message: string; hint: string } };
    if (error) return error.hint ? `${error.message}. ${error.hint}` : error.message;
  } catch {
    // Not JSON: the answer comes from a proxy.
  }
  return text.slice(0, 200);
}
