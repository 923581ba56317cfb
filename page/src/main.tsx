// The page begins here: the session decides which view is shown.

import { render } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { Failure, change, get, keepProof, whenSignedOut } from "./api";
import { forget } from "./live";
import { type SessionAnswer, SessionProvider, sessionOf, signInWith } from "./session";
import { Shell } from "./shell";
import { SignIn } from "./signin";
import { apply } from "./theme";
import { Problem } from "./ui/parts";

/** The code of a link from `tallyd open`, if one opened the page. The address loses it at once. */
function takeCode(): string | null {
  const match = /^#code=([0-9a-f]{64})$/.exec(location.hash);
  if (!match) return null;
  history.replaceState(null, "", "/");
  return match[1] ?? null;
}

const WAIT_MS = 1_000;

/** Signs in with a link's code. A daemon that has just started may need a moment for its database. */
async function useCode(code: string): Promise<SessionAnswer> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await signInWith({ code });
      if (answer) return answer;
    } catch (error) {
      if (!(error instanceof Failure) || error.status !== 503 || attempt >= 60) throw error;
      await new Promise((wake) => setTimeout(wake, WAIT_MS));
    }
  }
}

const code = takeCode();
/** The session when nobody is signed in. */
const NOBODY: SessionAnswer = { actor: null, role: null, version: null, time_zone: null };

function Page() {
  const [answer, setAnswer] = useState<SessionAnswer | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  /** Why a link did not sign in; the form shows it. */
  const [refused, setRefused] = useState<Failure | null>(null);
  const [ended, setEnded] = useState(false);

  const look = useCallback(async () => {
    try {
      setAnswer(await get<SessionAnswer>("/session"));
      setFailure(null);
    } catch (error) {
      if ((error as Failure).status === 401) return setAnswer(NOBODY);
      setFailure(error as Failure);
    }
  }, []);
  useEffect(() => {
    whenSignedOut(() => {
      setEnded(true);
      forget();
      setAnswer((before) => (before ? { ...before, actor: null } : before));
    });
    void (async () => {
      if (code) {
        try {
          return setAnswer(await useCode(code));
        } catch (error) {
          setRefused(error as Failure);
        }
      }
      await look();
    })();
  }, []);
  const signOut = async () => {
    try {
      await change("DELETE", "/session");
    } catch (error) {
      return setFailure(error as Failure);
    }
    keepProof(null);
    forget();
    setEnded(false);
    await look();
  };

  if (!answer) {
    return <div class="splash">{failure ? <Problem failure={failure} retry={() => void look()} /> : <span role="status">tallyd</span>}</div>;
  }
  const session = sessionOf(answer);
  if (!session) {
    const signedIn = (next: SessionAnswer) => {
      forget();
      setFailure(null);
      setRefused(null);
      setEnded(false);
      setAnswer(next);
    };
    return <SignIn ended={ended} first={refused} onSignedIn={signedIn} />;
  }
  return (
    <SessionProvider value={session}>
      {failure && <Problem failure={failure} />}
      <Shell onSignOut={() => void signOut()} />
    </SessionProvider>
  );
}

apply();
const root = document.getElementById("page");
if (root) {
  root.textContent = "";
  render(<Page />, root);
}
