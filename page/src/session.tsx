// The session of the signed-in user.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { change, keepProof } from "./api";

export interface SessionAnswer {
  /** Null if nobody is signed in. */
  actor: string | null;
  role: "admin" | "read" | "ingest" | null;
  version: string | null;
  time_zone: string | null;
  /** Sent once, when the session begins. */
  proof?: string;
}

/** Signs in at the daemon, and keeps the new session's proof. */
export async function signInWith(shown: unknown): Promise<SessionAnswer | null> {
  const answer = await change<SessionAnswer>("POST", "/session", shown);
  if (answer?.proof) keepProof(answer.proof);
  return answer;
}

export interface Session {
  actor: string;
  /** Whether the user may change something. */
  mayChange: boolean;
  version: string;
  /** The reporting time zone. */
  zone: string;
}

export function sessionOf(answer: SessionAnswer): Session | null {
  if (!answer.actor) return null;
  return {
    actor: answer.actor,
    mayChange: answer.role === "admin",
    version: answer.version ?? "",
    zone: answer.time_zone ?? "UTC",
  };
}

const Context = createContext<Session | null>(null);
export const SessionProvider = Context.Provider;

/** The session. Views are shown to signed-in users only. */
export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error("a view is shown without a session");
  return session;
}
