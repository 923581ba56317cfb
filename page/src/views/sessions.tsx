// Sessions of the product's users: three numbers, each with its definition.

import { get } from "../api";
import { count, noun } from "../format";
import { useLive } from "../live";
import type { Counted, SessionsAnswer } from "../types";
import { Card, Empty, Head, Loaded } from "../ui/parts";

export function Sessions() {
  const live = useLive<SessionsAnswer>("sessions", (signal) => get("/api/v1/sessions", signal));
  return (
    <>
      <Head title="Sessions" lead="Active users of the product, from Supabase’s tables." live={live} />
      <Loaded live={live} rows={3}>
        {({ sessions }) => sessions === null ? (
          <Empty title="No session tables">
            The database has no <code>auth.sessions</code> and <code>auth.users</code> that the daemon may read. On Supabase, run <code>tallyd migrate</code> as <code>postgres</code> once.
          </Empty>
        ) : (
          <div class="columns">
            <Number title="Active sessions" counted={sessions.active} more={`${noun(sessions.active_users, "user has", "users have")} them.`} />
            <Number title="Refreshed in the last 24 hours" counted={sessions.refreshed_24h} />
            <Number title="Signed in in the last 24 hours" counted={sessions.signed_in_24h} />
          </div>
        )}
      </Loaded>
    </>
  );
}

function Number({ title, counted, more }: { title: string; counted: Counted; more?: string }) {
  return (
    <Card title={title}>
      <div class="tile-value">{count(counted.count)}</div>
      <p class="footnote">{counted.definition} {more}</p>
    </Card>
  );
}
