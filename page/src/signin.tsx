// Signing in: a token, once, for a cookie that this script cannot read.

import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, change } from "./api";
import { ICON } from "./icon";
import type { SessionAnswer } from "./session";

export function SignIn(props: { ended: boolean; first: Failure | null; onSignedIn: (answer: SessionAnswer) => void }) {
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(props.first);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Sign in · tallyd";
    field.current?.focus();
  }, []);

  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const answer = await change<SessionAnswer>("POST", "/session", { token: token.trim() });
      if (answer) props.onSignedIn(answer);
    } catch (error) {
      setFailure(error as Failure);
      field.current?.select();
    }
    setBusy(false);
  };
  return (
    <main class="signin">
      <form class="card" onSubmit={submit}>
        <img src={ICON} width={40} height={40} alt="" />
        <h1>Sign in to tallyd</h1>
        {props.ended && !failure && <p class="notice" role="status">Your session has ended. Sign in again to go on where you were.</p>}
        <label for="token">Token</label>
        <input id="token" ref={field} type="password" autocomplete="current-password" required spellcheck={false} value={token}
          placeholder="tallyd_…" aria-describedby={failure ? "why" : "help"}
          aria-invalid={failure !== null} onInput={(event) => setToken(event.currentTarget.value)} />
        {failure && <p id="why" class="field-error" role="alert">{failure.message} {failure.hint}</p>}
        <button type="submit" class="primary" disabled={busy || token.trim() === ""}>{busy ? "Signing in …" : "Sign in"}</button>
        <p id="help" class="help">
          On the daemon’s machine, <code>tallyd open</code> prints a link that signs you in, and{" "}
          <code>tallyd token create --name me --role admin</code> makes a token.
          Where the daemon knows your Supabase project, the access token of one of its admins does, too.
        </p>
      </form>
    </main>
  );
}
