// Signing in: a token once, a cookie from then on.

import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { send, type ApiError } from "./api";
import type { Session } from "./types";
import { Field, Problem, useAction } from "./ui";

export function SignIn(props: { notice: ApiError | undefined; done: (session: Session) => void }) {
  const [token, setToken] = useState("");
  const action = useAction();
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    void action.run(async () => props.done(await send<Session>("POST", "/session", { token: token.trim() })));
  };
  const problem = action.error ?? props.notice;
  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <h1><img src="/assets/icon.svg" alt="" width="34" height="34" />tallyd</h1>
        {problem && <Problem error={problem} />}
        <Field label="Token" hint="One of tallyd's, or an admin's access token of your Supabase project.">
          {(id) => (
            <input id={id} type="password" autocomplete="current-password" spellcheck={false} required value={token}
              onInput={(event) => setToken(event.currentTarget.value)} />
          )}
        </Field>
        <button type="submit" class="primary" disabled={action.busy}>{action.busy ? "Signing in …" : "Sign in"}</button>
        <p class="note">On the daemon's machine <code>tallyd open</code> prints a link that signs in by itself, and <code>tallyd token create --name me --role admin</code> makes a token.</p>
      </form>
    </main>
  );
}
