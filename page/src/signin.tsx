// Signing in: a token or a password, once, for a session.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Failure, get } from "./api";
import { ICON } from "./icon";
import { type SessionAnswer, signInWith } from "./session";

/** The ways to sign in that the daemon offers. */
interface Ways {
  password: boolean;
}

interface Props {
  ended: boolean;
  first: Failure | null;
  onSignedIn: (answer: SessionAnswer) => void;
}

export function SignIn(props: Props) {
  const [ways, setWays] = useState<Ways | null>(null);
  const [byToken, setByToken] = useState(false);
  useEffect(() => {
    document.title = "Sign in · tallyd";
    // If this fails, a token still signs in.
    get<Ways>("/session/ways").then(setWays, () => setWays({ password: false }));
  }, []);
  if (!ways) return <main class="signin" aria-busy="true" />;
  const other = ways.password ? () => setByToken(!byToken) : null;
  return ways.password && !byToken
    ? <PasswordForm key="password" {...props} other={other} />
    : <TokenForm key="token" {...props} other={other} />;
}

type FormProps = Props & { other: (() => void) | null };

function PasswordForm(props: FormProps) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const { field, busy, failure, submit } = useSigningIn(props, () => ({ password: { email: email.trim(), password } }));
  return (
    <Frame {...props} failure={failure} submit={submit} busy={busy} ready={email.trim() !== "" && password !== ""} switch="Use a token instead">
      <label for="email">E-mail address</label>
      <input id="email" ref={field} type="email" autocomplete="username" required value={email} onInput={(event) => setEmail(event.currentTarget.value)} />
      <label for="password">Password</label>
      <input id="password" type="password" autocomplete="current-password" required value={password}
        aria-describedby={failure ? "why" : "help"} aria-invalid={failure !== null} onInput={(event) => setPassword(event.currentTarget.value)} />
    </Frame>
  );
}

function TokenForm(props: FormProps) {
  const [token, setToken] = useState("");
  const { field, busy, failure, submit } = useSigningIn(props, () => ({ token: token.trim() }));
  return (
    <Frame {...props} failure={failure} submit={submit} busy={busy} ready={token.trim() !== ""} switch="Use a password instead">
      <label for="token">Token</label>
      <input id="token" ref={field} type="password" autocomplete="current-password" required spellcheck={false} value={token}
        placeholder="tallyd_…" aria-describedby={failure ? "why" : "help"}
        aria-invalid={failure !== null} onInput={(event) => setToken(event.currentTarget.value)} />
    </Frame>
  );
}

/** Sends the form's content to the daemon, once. */
function useSigningIn(props: Props, shown: () => unknown) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(props.first);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const answer = await signInWith(shown());
      if (answer) props.onSignedIn(answer);
    } catch (error) {
      setFailure(error as Failure);
      field.current?.select();
    }
    setBusy(false);
  };
  return { field, busy, failure, submit };
}

interface FrameProps extends FormProps {
  failure: Failure | null;
  submit: (event: Event) => void;
  busy: boolean;
  ready: boolean;
  switch: string;
  children: ComponentChildren;
}

function Frame(props: FrameProps) {
  const { failure, other } = props;
  return (
    <main class="signin">
      <form class="card" onSubmit={props.submit}>
        <img src={ICON} width={40} height={40} alt="" />
        <h1>Sign in to tallyd</h1>
        {props.ended && !failure && <p class="notice" role="status">Your session has ended. Sign in again to go on where you were.</p>}
        {props.children}
        {failure && <p id="why" class="field-error" role="alert">{failure.message} {failure.hint}</p>}
        <button type="submit" class="primary" disabled={props.busy || !props.ready}>{props.busy ? "Signing in …" : "Sign in"}</button>
        {other && <button type="button" class="quiet" onClick={other}>{props.switch}</button>}
        <p id="help" class="help">
          {other && "An admin of your Supabase project signs in with their own account. "}
          On the daemon’s machine, <code>tallyd open</code> prints a link that signs you in, and{" "}
          <code>tallyd token create --name me --role admin</code> makes a token.
          {!other && " Where the daemon knows your Supabase project, the access token of one of its admins does, too."}
        </p>
      </form>
    </main>
  );
}
