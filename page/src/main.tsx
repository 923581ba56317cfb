// The page: who is signed in, where one is, and the frame around it.

import { render } from "preact";
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, onSessionEnd, send } from "./api";
import { link, useRoute, type Route } from "./route";
import { SignIn } from "./sign-in";
import "./style.css";
import type { Session } from "./types";
import { BudgetsView } from "./views/budgets";
import { CostsView } from "./views/costs";
import { DeadLettersView } from "./views/dead-letters";
import { OverviewView } from "./views/overview";
import { PricesView } from "./views/prices";
import { RecordsView } from "./views/records";
import { SessionsView } from "./views/sessions";
import { UserView, UsersView } from "./views/users";

export interface ViewProps { route: Route; session: Session }

const VIEWS: [string, string, ComponentType<ViewProps>][] = [
  ["overview", "Overview", OverviewView],
  ["costs", "Costs", CostsView],
  ["users", "Users", UsersView],
  ["sessions", "Sessions", SessionsView],
  ["budgets", "Budgets", BudgetsView],
  ["prices", "Prices", PricesView],
  ["records", "Records", RecordsView],
  ["dead-letters", "Dead letters", DeadLettersView],
];

type Theme = "" | "light" | "dark";

function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState<Theme>(() => (localStorage.getItem("theme") ?? "") as Theme);
  useEffect(() => {
    if (theme) document.documentElement.dataset["theme"] = theme;
    else delete document.documentElement.dataset["theme"];
    if (theme) localStorage.setItem("theme", theme);
    else localStorage.removeItem("theme");
  }, [theme]);
  return [theme, setTheme];
}

function Frame(props: { session: Session; signOut: () => void }) {
  const route = useRoute();
  const [theme, setTheme] = useTheme();
  const heading = useRef<HTMLHeadingElement>(null);
  const [name, title, View] = VIEWS.find(([name]) => name === route.view) ?? VIEWS[0]!;
  const shown = name === "users" && route.id ? UserView : View;
  const Shown = shown;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${title} · tallyd`;
    // Whoever listens to the page hears where they are now.
    if (!first.current) heading.current?.focus();
    first.current = false;
  }, [title, route.id]);
  const next: Record<Theme, [Theme, string]> = { "": ["light", "Automatic"], light: ["dark", "Light"], dark: ["", "Dark"] };
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); heading.current?.focus(); }}>Skip to the content</a>
      <nav aria-label="Views">
        <a class="brand" href={link("overview")}><img src="/assets/icon.svg" alt="" width="26" height="26" />tallyd</a>
        <ul>
          {VIEWS.map(([view, text]) => (
            <li key={view}><a href={link(view)} aria-current={view === name ? "page" : undefined}>{text}</a></li>
          ))}
        </ul>
        <div class="who">
          <span title={props.session.actor}>{props.session.actor.replace(/^token:\d+ /, "").replace(/^user:/, "")}</span>
          <button type="button" class="plain" onClick={() => setTheme(next[theme][0])} aria-label={`Colours: ${next[theme][1]}. Change`}>{next[theme][1]}</button>
          <button type="button" class="plain" onClick={props.signOut}>Sign out</button>
        </div>
      </nav>
      <main id="main">
        <h1 ref={heading} tabIndex={-1}>{shown === UserView ? route.id : title}</h1>
        <Shown key={`${name}/${route.id}`} route={route} session={props.session} />
      </main>
    </div>
  );
}

function Page() {
  const [session, setSession] = useState<Session | null>();
  const [notice, setNotice] = useState<ApiError>();
  useEffect(() => onSessionEnd(() => {
    setSession(null);
    setNotice(new ApiError(401, "ended", "Your session is over.", "Sign in again to go on where you were."));
  }), []);
  useEffect(() => {
    const begin = async () => {
      const code = /^#code=([0-9a-f]+)$/.exec(location.hash)?.[1];
      if (code) {
        // It is used up now, and does not belong into the history.
        history.replaceState(null, "", location.pathname);
        try {
          setSession(await send<Session>("POST", "/session", { code }));
          return;
        } catch (error) {
          if (error instanceof ApiError) setNotice(error);
        }
      }
      try {
        setSession(await get<Session>("/session"));
      } catch (error) {
        if (error instanceof ApiError && error.status !== 401) setNotice(error);
        setSession(null);
      }
    };
    void begin();
  }, []);
  if (session === undefined) return <div class="blank" role="status" aria-label="Loading" />;
  if (session === null) {
    return <SignIn notice={notice} done={(session) => { setNotice(undefined); setSession(session); }} />;
  }
  const signOut = async () => {
    await send("DELETE", "/session");
    setSession(null);
  };
  return <Frame session={session} signOut={() => void signOut()} />;
}

render(<Page />, document.getElementById("page")!);
