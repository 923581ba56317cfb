// Requests to the daemon that served this page, and to no other host.

/** The API's error. The status is 0 if there was no answer. */
export class Failure extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly hint: string) {
    super(message);
  }
}

let onSignedOut: () => void = () => {};
/** The callback for the end of the session. */
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

const PROOF = "tallyd.proof";
/** The value that the page sends beside its cookie. Cookies go to every port of a host; this storage belongs to this origin. */
let proof = "1";
try { proof = localStorage.getItem(PROOF) ?? proof; } catch { /* Without a storage the session ends with the page. */ }

/** Keeps the proof of a session that has begun, or forgets it with null. */
export function keepProof(next: string | null): void {
  proof = next ?? "1";
  try {
    if (next) localStorage.setItem(PROOF, next);
    else localStorage.removeItem(PROOF);
  } catch { /* As above. */ }
}

/** Another tab has signed in: this one continues with its session. */
addEventListener("storage", (event) => { if (event.key === PROOF && event.newValue) proof = event.newValue; });

let renewing: Promise<boolean> | null = null;
/** Renews a session that was begun with a password; false if it has ended. All requests share one attempt at a time.
 * Throws if the daemon cannot tell now: then the session may still be valid. */
function renew(): Promise<boolean> {
  const attempt = async () => {
    const answer = await ask("POST", "/session", { renewal: {} });
    if (answer.status === 429 || answer.status >= 500) throw await failureOf(answer);
    // An unread answer stays open.
    await answer.text();
    return answer.ok;
  };
  renewing ??= attempt().finally(() => { renewing = null; });
  return renewing;
}

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  let answer = await ask(method, path, body, signal);
  // Signing in has its own errors. For any other request the access token may have expired.
  const signsIn = method !== "GET" && path === "/session";
  if (answer.status === 401 && !signsIn && (await renew())) {
    await answer.text();
    answer = await ask(method, path, body, signal);
  }
  if (answer.ok) return answer;
  const failure = await failureOf(answer);
  if (answer.status === 401 && path !== "/session") onSignedOut();
  throw failure;
}

async function ask(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { "x-tallyd-page": proof, accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  try {
    // Answers have tags: the browser asks whether its copy is still valid, and the daemon sends changed answers only.
    return await fetch(path, {
      method, headers, credentials: "same-origin", redirect: "error",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "no_answer", "The daemon does not answer.", "Is it running, and is this machine online? This page tries again by itself.");
  }
}

async function failureOf(answer: Response): Promise<Failure> {
  try {
    const { error } = (await answer.json()) as { error: { code: string; message: string; hint: string } };
    return new Failure(answer.status, error.code, sentence(error.message), sentence(error.hint));
  } catch {
    return new Failure(answer.status, "unexpected", `The answer was ${answer.status} ${answer.statusText}.`, "A proxy in front may have sent it.");
  }
}

function sentence(text: string): string {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(upper) ? upper : `${upper}.`;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await send("GET", path, undefined, signal)).json()) as T;
}

/** Saves a file that the daemon makes. A link could not send the proof. */
export async function download(path: string): Promise<void> {
  const answer = await send("GET", path);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "tallyd.csv";
  let file: Blob;
  try {
    file = await answer.blob();
  } catch {
    throw new Failure(0, "broken_off", "The file broke off.", "Narrow the range, or ask again.");
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  // The browser has begun to save by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Sends a change. Null if the answer is empty. */
export async function change<T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<T | null> {
  const answer = await send(method, path, body);
  return answer.status === 204 ? null : ((await answer.json()) as T);
}

/** A path with its parameters, without empty ones. */
export function url(path: string, parameters: Record<string, string | number | boolean | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}
