// Cost per unit and margin: units and revenue that were stated by day, beside the costs of an application or a tag.

import { get } from "../api";
import type { History } from "../costdata";
import { type Range, nameOf, path, wordOf } from "../filter";
import { count, percentage } from "../format";
import { useLive } from "../live";
import { type Attos, parse } from "../money";
import { CostChange } from "../ui/change";
import { Cost, Empty, Loaded, Money, Name } from "../ui/parts";
import { type Column, Sorted } from "../ui/table";

interface Row {
  value: string;
  unit: string | null;
  quantity: string | null;
  revenue_usd: string | null;
  cost_usd: string;
  unpriced_calls: number;
  cost_per_unit_usd: string | null;
  margin_usd: string | null;
  margin_percent: string | null;
}

interface Answer {
  rows: Row[];
}

type Both = Row & { before: Attos | null };

const keyOf = (row: Row): string => JSON.stringify([row.value, row.unit]);
const amount = (text: string | null): Attos | null => (text === null ? null : parse(text));

export function Units({ data }: { data: History }) {
  const { by, range, before, filters } = data.question;
  const dimension = by === "app" || by.startsWith("tag:") ? by : null;
  const of = (days: Range) => path("/api/v1/units", { ...days, group_by: dimension }, []);
  const live = useLive<Both[]>(`${of(range)} ${before?.from}`, async (signal) => {
    const [now, past] = await Promise.all([get<Answer>(of(range), signal), before && get<Answer>(of(before), signal)]);
    const known = new Map(past?.rows.map((row) => [keyOf(row), amount(row.cost_per_unit_usd)]));
    return now.rows.map((row) => ({ ...row, before: known.get(keyOf(row)) ?? null }));
  }, 60_000);
  if (Object.keys(filters).length > 0) return <Empty title="Units are of all calls">Remove the filters. Units are stated for all calls, or by application or tag.</Empty>;
  return <Loaded live={live} rows={6}>{(rows) => (rows.some((row) => row.unit !== null) ? <Found rows={rows} by={dimension} /> : <None by={dimension} />)}</Loaded>;
}

function None({ by }: { by: History["question"]["by"] | null }) {
  return (
    <Empty title={by ? `No units are stated by ${wordOf(by)}` : "No units of all calls are stated"}>
      State orders, answers or seats by day (<code>tallyd units import</code>), and this table has the cost of one. {by ? "" : "Stack by an application or a tag to see the units of each. "}
      <a href="/docs/guide/unit-economics.html">Cost per unit and margin</a>
    </Empty>
  );
}

function Found({ rows, by }: { rows: Both[]; by: History["question"]["by"] | null }) {
  const money = (text: string | null, decimals = 2) => (text === null ? <span class="none">—</span> : <Money amount={parse(text)} decimals={decimals} />);
  const columns: Column<Both>[] = [
    { key: "value", label: by ? wordOf(by) : "Calls", by: ({ value }) => value, cell: ({ value }) => <Name text={by ? nameOf(by, value) : "all"} /> },
    { key: "unit", label: "Unit", by: ({ unit }) => unit, cell: ({ unit }) => unit ?? <span class="fine">not stated</span> },
    { key: "quantity", label: "Quantity", number: true, by: ({ quantity }) => amount(quantity), cell: ({ quantity }) => (quantity === null ? <span class="none">—</span> : count(Number(quantity))) },
    { key: "cost", label: "Cost", number: true, by: ({ cost_usd }) => parse(cost_usd), cell: (row) => <Cost amount={parse(row.cost_usd)} unpriced={row.unpriced_calls} decimals={2} /> },
    { key: "each", label: "Per unit", number: true, by: (row) => amount(row.cost_per_unit_usd), cell: (row) => money(row.cost_per_unit_usd, 4) },
    { key: "change", label: "Change", number: true, wide: true, cell: (row) => (row.cost_per_unit_usd === null ? <span class="none">—</span> : <CostChange now={parse(row.cost_per_unit_usd)} before={row.before} long />) },
    { key: "revenue", label: "Revenue", number: true, wide: true, by: ({ revenue_usd }) => amount(revenue_usd), cell: ({ revenue_usd }) => money(revenue_usd) },
    { key: "margin", label: "Margin", number: true, by: ({ margin_usd }) => amount(margin_usd), cell: (row) => money(row.margin_usd) },
    { key: "percent", label: "%", number: true, wide: true, cell: ({ margin_percent }) => <span class="fine">{percentage(margin_percent === null ? null : Number(margin_percent))}</span> },
  ];
  return <Sorted caption="Cost per unit and margin" columns={columns} rows={rows} id={keyOf} first="cost" />;
}
