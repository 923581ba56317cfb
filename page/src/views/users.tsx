// Users: lifetime calls and costs, searched, sorted, paged by the daemon.

import { useState } from "preact/hooks";
import { get, url } from "../api";
import { ago, count, instant } from "../format";
import { useLive } from "../live";
import { parse } from "../money";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { Users as Answer, UserTotals } from "../types";
import { Card, Cost, DownloadCsv, Empty, Head, Loaded, Name } from "../ui/parts";
import { type Column, Pager, Table } from "../ui/table";
import { UserDetail } from "./user";

const PAGE = 50;
const TOTAL = { exact: "", estimate: "about ", at_least: "at least " };

export function Users() {
  const { rest } = useRoute();
  return rest ? <UserDetail id={rest} /> : <List />;
}

function List() {
  const { query } = useRoute();
  const { zone } = useSession();
  const search = query.get("search") ?? "";
  const [typed, setTyped] = useState(search);
  const sort = query.get("sort") ?? "cost";
  const order = query.get("order") === "asc" ? "asc" : "desc";
  const key = JSON.stringify([search, sort, order]);
  const [pages, setPages] = useState<{ key: string; cursors: string[] }>({ key: "", cursors: [] });
  const cursors = pages.key === key ? pages.cursors : [];
  const path = url("/api/v1/users", { search, sort, order, cursor: cursors[cursors.length - 1] ?? null, limit: PAGE });
  const live = useLive<Answer>(path, (signal) => get(path, signal));
  const find = (event: Event) => {
    event.preventDefault();
    amend({ search: typed.trim() || null });
  };
  const columns: Column<UserTotals>[] = [
    { key: "id", label: "User", sort: true, cell: (user) => <a class="named" href={href("users", {}, user.id)}><Name text={user.shown ?? (user.id || "(no user)")} /></a> },
    { key: "claude_calls", label: "Claude calls", number: true, sort: true, cell: (user) => count(user.total_claude_calls) },
    { key: "rentcast_calls", label: "RentCast calls", number: true, sort: true, cell: (user) => count(user.total_rentcast_calls) },
    { key: "calls", label: "All calls", number: true, sort: true, wide: true, cell: (user) => count(user.total_calls) },
    { key: "errors", label: "Failed", number: true, wide: true, cell: (user) => count(user.errors) },
    { key: "cost", label: "Cost", number: true, sort: true, cell: (user) => <Cost amount={parse(user.cost_usd)} unpriced={user.unpriced_calls} decimals={4} /> },
    { key: "last_call", label: "Last call", number: true, sort: true, wide: true, cell: (user) => <span title={instant(user.last_call_at, zone)}>{ago(user.last_call_at)}</span> },
  ];
  return (
    <>
      <Head title="Users" lead={<>Calls and costs of each user since the first record. <a href={href("costs", { by: "user" })}>Users in a range of days</a></>} live={live}>
        <DownloadCsv path={url("/api/v1/users", { search, sort, order, format: "csv" })} />
      </Head>
      <form class="filters" role="search" onSubmit={find}>
        <input type="search" aria-label="Search users" placeholder="Id or address" value={typed} onInput={(event) => setTyped(event.currentTarget.value)}
          onChange={(event) => amend({ search: event.currentTarget.value.trim() || null })} />
        <button type="submit">Search</button>
      </form>
      <Loaded live={live} rows={10}>
        {(data) => data.users.length === 0 && !data.as_of && data.next === null && cursors.length === 0 ? (
          <Empty title={search ? `No id begins with “${search}”, and no address has it` : "No users yet"}>
            {search ? "Try fewer letters." : <>Records that carry a <code>user_id</code> appear here.</>}
          </Empty>
        ) : (
          <Card>
            <Table caption="Users" columns={columns} rows={data.users} id={(user) => user.id}
              sorting={{ by: sort, descending: order === "desc", onSort: (by, descending) => amend({ sort: by === "cost" ? null : by, order: descending ? null : "asc" }) }} />
            <Pager text={`Page ${count(cursors.length + 1)} · ${TOTAL[data.total_is]}${count(data.total)} ${data.total === 1 ? "user" : "users"}`}
              onBack={cursors.length > 0 ? () => setPages({ key, cursors: cursors.slice(0, -1) }) : undefined}
              onNext={data.next === null ? undefined : () => setPages({ key, cursors: [...cursors, data.next!] })} />
            {data.as_of && <p class="footnote">Many calls are being loaded. This list has those that were loaded until {instant(data.as_of, zone)}.</p>}
            {!data.joined && <p class="footnote">Users are taken from records, because the daemon may not read the project’s table of users. Addresses are missing for this reason.</p>}
          </Card>
        )}
      </Loaded>
    </>
  );
}
