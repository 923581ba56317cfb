// Alerts of budgets and of unusual spend: an inbox. They are new until a user has seen them, and kept afterwards.

import { useState } from "preact/hooks";
import { Failure, change, get, url } from "../api";
import { count, instant, percentage, shortDay } from "../format";
import { useLive } from "../live";
import { parse, percent as share, usd } from "../money";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { Alert, AlertsAnswer } from "../types";
import { Badge, Card, Choice, Empty, Head, Loaded, Problem } from "../ui/parts";
import { type Selection, useSelection } from "../ui/select";
import { Pager } from "../ui/table";

const PAGE = 50;
const KINDS: Record<string, string> = { budget: "Budget", spend: "Unusual spend", rule: "Rule", report: "Report", test: "Test" };
const PERIODS: Record<string, string> = { day: "Daily", week: "Weekly", month: "Monthly" };

export function Alerts() {
  const { mayChange } = useSession();
  const all = useRoute().query.get("show") === "all";
  const [before, setBefore] = useState<number[]>([]);
  const [failure, setFailure] = useState<Failure | null>(null);
  const path = url("/api/v1/alerts", { only_new: all ? null : true, limit: PAGE, before: before[before.length - 1] });
  const live = useLive<AlertsAnswer>(path, (signal) => get(path, signal), 10_000);
  const acknowledge = async (body: { ids: number[] } | { up_to: number }) => {
    try {
      await change("POST", "/api/v1/alerts/acknowledge", body);
      setFailure(null);
      live.reload();
    } catch (error) {
      setFailure(error as Failure);
    }
  };
  const show = (next: boolean) => {
    setBefore([]);
    amend({ show: next ? "all" : null });
  };
  const newest = live.data?.alerts[0]?.id;
  const open = (live.data?.alerts ?? []).filter((alert) => !alert.acknowledged_at).map(({ id }) => String(id));
  const selection = useSelection(mayChange ? open : []);
  return (
    <>
      <Head title="Alerts" lead={<>Budgets that reached a threshold, rules, and unusual spend. <a href={href("rules")}>Alert rules</a></>} live={live}>
        {selection.picked.length > 0 && <button type="button" class="primary" onClick={() => void acknowledge({ ids: selection.picked.map(Number) })}>Acknowledge {count(selection.picked.length)} selected</button>}
        {mayChange && newest !== undefined && (live.data?.new ?? 0) > 0 && before.length === 0 && (
          <button type="button" onClick={() => void acknowledge({ up_to: newest })}>Acknowledge all</button>
        )}
        <Choice label="Which alerts" value={all ? "all" : "new"} options={[["new", "New"], ["all", "All"]]} onPick={(value) => show(value === "all")} />
      </Head>
      {failure && <Problem failure={failure} />}
      <Loaded live={live} rows={8}>
        {({ alerts, next }) => alerts.length === 0 ? (
          <Empty title={all ? "No alert was raised yet" : "No new alerts"}>
            {all ? <>Set a budget under <a href="#/budgets">Budgets</a>: an alert is raised at each of its thresholds, once a period.</> : <>Acknowledged alerts are under <em>All</em>.</>}
          </Empty>
        ) : (
          <Card>
            <ul class="alerts">
              {alerts.map((alert) => <Row key={alert.id} alert={alert} selection={selection} onSeen={mayChange && !alert.acknowledged_at ? () => void acknowledge({ ids: [alert.id] }) : undefined} />)}
            </ul>
            <Pager text="Newest first" onBack={before.length > 0 ? () => setBefore(before.slice(0, -1)) : undefined} onNext={next === null ? undefined : () => setBefore([...before, next])} />
          </Card>
        )}
      </Loaded>
    </>
  );
}

/** The alert in a sentence, with amounts and days as elsewhere on the page. */
function sentence({ kind, message, details }: Alert): string {
  const { percent, period, scope, period_start: start, spent_usd: spent, amount_usd: amount } = details;
  const money = (value: unknown) => usd(parse(String(value)), 2);
  if (kind === "spend" && spent !== undefined) return `Unusual spend of the ${details.what} ${details.name}: ${money(spent)} on ${shortDay(String(details.day))}, usually up to ${money(details.usual_usd)} a day`;
  if (kind !== "budget" || spent === undefined) return message.replace(/^tallyd: /, "");
  const of = Object.entries((scope ?? {}) as Record<string, string>).map(([dimension, name]) => `${dimension.replace(/^tag:/, "tag ")} ${name}`).join(" and ") || "all spend";
  const used = percentage(share(parse(String(spent)), parse(String(amount))));
  const forecast = details.forecast_usd === undefined ? "" : `, forecast then: ${money(details.forecast_usd)}`;
  const top = Array.isArray(details.top) && details.top.length > 0 ? `; top: ${details.top.map((part) => `${part.name} ${money(part.cost_usd)}`).join(", ")}` : "";
  return `${PERIODS[String(period)]} budget (${of}) ${used} used: ${money(spent)} of ${money(amount)} since ${shortDay(String(start))}, alert at ${percent} %${forecast}${top}`;
}

function Row({ alert, selection, onSeen }: { alert: Alert; selection: Selection; onSeen: (() => void) | undefined }) {
  const { zone } = useSession();
  const text = sentence(alert);
  return (
    <li class={alert.acknowledged_at ? "alert seen" : "alert"}>
      {onSeen && <input type="checkbox" class="pick" aria-label={`Select: ${text}`} checked={selection.has(String(alert.id))} onChange={() => selection.toggle(String(alert.id))} />}
      <div class="alert-text">
        <div class="alert-marks">
          <Badge tone={alert.acknowledged_at ? "plain" : alert.current ? "bad" : "warn"}>{KINDS[alert.kind] ?? alert.kind}</Badge>
          <span class="fine when">{instant(alert.at, zone)}</span>
          {!alert.current && <span class="fine">period ended</span>}
        </div>
        <p>{text}</p>
        {alert.acknowledged_at && <p class="fine">Acknowledged by {alert.acknowledged_by}, {instant(alert.acknowledged_at, zone)}</p>}
        {alert.delivery === "due" && alert.delivery_error !== "" && <p class="fine">Delivery failed: {alert.delivery_error}. It will be retried.</p>}
      </div>
      {onSeen && <button type="button" aria-label={`Acknowledge: ${text}`} onClick={onSeen}>Acknowledge</button>}
    </li>
  );
}
