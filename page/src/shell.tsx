// The frame: the menu, the signed-in user, and the view.

import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "./api";
import { ICON } from "./icon";
import { useLive } from "./live";
import { href, useRoute } from "./route";
import { useSession } from "./session";
import { type Theme, choose, chosen } from "./theme";
import type { AlertsAnswer, Status } from "./types";
import { VIEWS } from "./views";

const THEMES: Record<Theme, { next: Theme; label: string }> = {
  system: { next: "light", label: "Theme: system" },
  light: { next: "dark", label: "Theme: light" },
  dark: { next: "system", label: "Theme: dark" },
};

export function Shell({ onSignOut }: { onSignOut: () => void }) {
  const route = useRoute();
  const session = useSession();
  const [theme, setTheme] = useState(chosen);
  const main = useRef<HTMLElement>(null);
  const status = useLive<Status>("pipeline", (signal) => get("/api/v1/pipeline", signal), 5_000);
  const alerts = useLive<AlertsAnswer>("new alerts", (signal) => get("/api/v1/alerts?only_new=true&limit=1", signal), 15_000);
  const unseen = alerts.data?.new ?? 0;
  const views = VIEWS.filter((view) => !view.admin || session.mayChange);
  const shown = views.find((view) => view.id === route.view) ?? views[0];
  const View: ComponentType = shown?.view ?? (() => null);

  // A screen reader continues at the top of the new view; a phone's menu scrolls to it.
  useEffect(() => {
    scrollTo(0, 0);
    document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [route.view]);

  const health = status.failure && !status.failure.status ? "failing" : status.data?.health.status;
  const nextTheme = () => {
    const next = THEMES[theme].next;
    choose(next);
    setTheme(next);
  };
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
      <header class="side">
        <a class="brand" href={href("overview")}><img src={ICON} width={26} height={26} alt="" /> tallyd</a>
        <nav class="nav" aria-label="Views">
          {views.map((view) => (
            <a key={view.id} href={href(view.id)} aria-current={view.id === shown?.id ? "page" : undefined}>
              <svg viewBox="0 0 16 16" aria-hidden="true"><path d={view.icon} /></svg>
              <span>{view.label}</span>
              {view.id === "alerts" && unseen > 0 && <span class="unseen">{unseen > 99 ? "99+" : unseen}<span class="hidden"> new</span></span>}
              {view.id === "pipeline" && health && health !== "ok" && <span class={`alarm ${health}`}><span class="hidden">{health}</span></span>}
            </a>
          ))}
        </nav>
        <div class="who">
          <div class="who-name" title={session.actor}>{session.actor}{session.mayChange ? "" : " (read only)"}</div>
          <div class="who-tools">
            <button type="button" class="quiet" onClick={nextTheme}>{THEMES[theme].label}</button>
            <button type="button" class="quiet" onClick={onSignOut}>Sign out</button>
          </div>
          <div class="version">tallyd {session.version} · <a href="/docs/">Docs</a> · <a href="/api/docs">API</a></div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}><View key={`${route.view}/${route.rest}`} /></main>
    </div>
  );
}
