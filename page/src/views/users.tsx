// Users with their lifetime totals, and one user's own history.

import { useState } from "preact/hooks";
import { url } from "../api";
import { Stack } from "../chart";
import { ago, compact, count, day, dayShort, instant, provider } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import { money, sum, usd } from "../money";
import { change, link } from "../route";
import type { User, UserDetail, Users } from "../types";
import { Answer, Choice, Empty, Panel, Search, Table } from "../ui";

const PAGE = 50;

export function UsersView(props: ViewProps) {
  const { route } = props;
  const search = route.query.get("search") ?? "";
  const sort = route.query.get("sort") ?? "cost";
  const descending = route.query.get("order") !== "asc";
  const offset = Math.max(0, Number(route.query.get("offset")) || 0);
  const order = descending ? "desc" : "asc";
  const answer = useLive<Users>(url("/api/v1/users", { search, sort, order, offset, limit: PAGE }));
  const set = (key: string, descending: boolean) => change(route, { sort: key, order: descending ? undefined : "asc", offset: undefined });
  return (
    <>
      <div class="controls">
        <Search label="Search by id or address" value={search} set={(search) => change(route, { search, offset: undefined })} />
        <a class="button" href={url("/api/v1/users", { search, sort, order, format: "csv" })} download>CSV</a>
      </div>
      <Answer of={answer} lines={8}>
        {(data) => (
          <Panel wide title={`${count(data.total)} ${data.total === 1 ? "user" : "users"}`} note={data.joined ? "Lifetime totals." : "Lifetime totals, of those who have made a call: there is no auth.users to take the others from."}>
            {data.users.length === 0 ? <Empty>{search ? "Nobody's id or address has that in it." : "No call was made on anybody's behalf yet."}</Empty> : <List users={data.users} joined={data.joined} sort={{ key: sort, descending, set }} />}
            {data.total > PAGE && (
              <div class="pages">
                <button type="button" disabled={offset === 0} onClick={() => change(route, { offset: Math.max(0, offset - PAGE) || undefined })}>Before</button>
                <span>{count(offset + 1)} – {count(Math.min(offset + PAGE, data.total))} of {count(data.total)}</span>
                <button type="button" disabled={data.next_offset === null} onClick={() => change(route, { offset: offset + PAGE })}>Next</button>
              </div>
            )}
          </Panel>
        )}
      </Answer>
    </>
  );
}

function List(props: { users: User[]; joined: boolean; sort: { key: string; descending: boolean; set: (key: string, descending: boolean) => void } }) {
  return (
    <Table label="Users" rows={props.users} row={(row) => row.id} sort={props.sort} columns={[
      { title: "User", sort: "id", cell: (row) => <a href={link("users", {}, row.id)}>{row.email ?? (row.id || "(nobody)")}</a> },
      { title: "Claude calls", number: true, sort: "claude_calls", cell: (row) => count(row.total_claude_calls) },
      { title: "RentCast calls", number: true, sort: "rentcast_calls", cell: (row) => count(row.total_rentcast_calls), minor: true },
      { title: "All calls", number: true, sort: "calls", cell: (row) => count(row.total_calls), minor: true },
      { title: "Cost", number: true, sort: "cost", cell: (row) => <span title={`${row.cost_usd} USD`}>{money(row.cost_usd)}</span> },
      { title: "Last call", number: true, sort: "last_call", cell: (row) => <time dateTime={row.last_call_at ?? ""} title={instant(row.last_call_at)}>{ago(row.last_call_at)}</time>, minor: true },
    ]} />
  );
}

const RANGES: [string, string][] = [["30", "30 days"], ["90", "90 days"], ["365", "A year"]];

export function UserView(props: ViewProps) {
  const { id } = props.route;
  const [days, setDays] = useState("30");
  const answer = useLive<UserDetail>(url(`/api/v1/users/${encodeURIComponent(id)}`, { days }));
  return (
    <>
      <div class="controls">
        <a class="button" href={link("users")}>← All users</a>
        <Choice label="Days" value={days} options={RANGES} set={setDays} />
        <a class="button" href={link("records", { user_id: id })}>Records</a>
      </div>
      <Answer of={answer}>
        {(data) => (
          <>
            <div class="stats">
              <div class="stat"><h2>Lifetime cost</h2><p class="value">{money(data.cost_usd)}</p><p class="note">{count(data.total_calls)} calls, {count(data.errors)} failed{data.unpriced_calls > 0 && `, ${count(data.unpriced_calls)} without a price`}</p></div>
              <div class="stat"><h2>Claude calls</h2><p class="value">{compact(data.total_claude_calls)}</p><p class="note">since {instant(data.first_call_at, false)}</p></div>
              <div class="stat"><h2>RentCast calls</h2><p class="value">{compact(data.total_rentcast_calls)}</p><p class="note">last call {ago(data.last_call_at)}</p></div>
            </div>
            <Panel wide title={`The last ${days} days`} note={data.email ?? undefined}>
              {data.days.length === 0 ? <Empty>No calls in these days.</Empty> : <Days days={data.days} />}
            </Panel>
          </>
        )}
      </Answer>
    </>
  );
}

function Days(props: { days: UserDetail["days"] }) {
  const oldest = props.days.map((row) => row.day).reduce((a, b) => (a < b ? a : b));
  const newest = props.days.map((row) => row.day).reduce((a, b) => (a > b ? a : b));
  const buckets: string[] = [];
  for (const at = new Date(`${oldest}T00:00:00Z`); at <= new Date(`${newest}T00:00:00Z`); at.setUTCDate(at.getUTCDate() + 1)) buckets.push(at.toISOString().slice(0, 10));
  const providers = [...new Set(props.days.map((row) => row.provider))].sort();
  const series = providers.map((name) => ({
    name: provider(name),
    values: buckets.map((bucket) => props.days.filter((row) => row.day === bucket && row.provider === name).reduce((total, row) => total + usd(row.cost_usd), 0n)),
  }));
  const dates = [...new Set(props.days.map((row) => row.day))];
  const of = (day: string) => props.days.filter((row) => row.day === day);
  return (
    <>
      <Stack label="Cost a day by provider" buckets={buckets} names={dayShort} series={series} other={false} />
      <Table label="Days" rows={dates} row={(row) => row} columns={[
        { title: "Day", cell: (row) => day(row) },
        { title: "Calls", number: true, cell: (row) => count(of(row).reduce((total, one) => total + one.calls, 0)) },
        { title: "Failed", number: true, cell: (row) => count(of(row).reduce((total, one) => total + one.errors, 0)), minor: true },
        { title: "Cost", number: true, cell: (row) => money(sum(of(row).map((one) => one.cost_usd))) },
      ]} />
    </>
  );
}
