// How many are there now: three numbers, each with what it counts.

import { count } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import type { Counted, Sessions } from "../types";
import { Answer, Empty, Panel } from "../ui";

export function SessionsView(_props: ViewProps) {
  const answer = useLive<Sessions>("/api/v1/sessions");
  return (
    <Answer of={answer}>
      {(data) => data.sessions === null ? (
        <Panel wide title="No sessions to count">
          <Empty>The database has no <code>auth.sessions</code> and <code>auth.users</code>, or tallyd's role may not read them. With Supabase they are there; the README says which grant is needed.</Empty>
        </Panel>
      ) : (
        <div class="stats">
          <Number name="Active sessions" counted={data.sessions.active} more={`${count(data.sessions.active_users)} users`} />
          <Number name="Refreshed in 24 hours" counted={data.sessions.refreshed_24h} />
          <Number name="Signed in within 24 hours" counted={data.sessions.signed_in_24h} />
        </div>
      )}
    </Answer>
  );
}

function Number(props: { name: string; counted: Counted; more?: string }) {
  return (
    <div class="stat">
      <h2>{props.name}</h2>
      <p class="value">{count(props.counted.count)}</p>
      {props.more && <p>{props.more}</p>}
      <p class="note">{props.counted.definition}</p>
    </div>
  );
}
