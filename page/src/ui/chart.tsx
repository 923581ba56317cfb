// A stacked bar chart over time: hover or arrow keys read a bar out, a click or Enter opens it, the legend's buttons take
// series away.
//
// uPlot draws on a canvas, so the chart is for eyes; the table beneath has the same figures for screen readers. The first
// series, which is the largest, stands at the base. Bars are stacked by drawing sums from the tallest down, each over the
// one before; lines are drawn over the bars.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { useTheme } from "../theme";

export interface Series {
  name: string;
  /** A custom property with its colour: `--c1`. */
  color: string;
  /** A value per bar. */
  values: number[];
}

/** A line over the bars, such as a budget; solid if it is measured. Null: the line has no value there, which is a gap. */
export interface Line {
  name: string;
  color: string;
  values: (number | null)[];
  solid?: boolean;
}

export interface ChartProps {
  label: string;
  /** Each bar's names on the axis and in the tooltip. A note marks the bar, a mark its time: an event that is not a value. */
  bars: { short: string; long: string; note?: string | undefined; mark?: string | undefined }[];
  series: Series[];
  lines?: Line[];
  format: (value: number) => string;
  axis: (value: number) => string;
  /** The bar whose period is not over yet; it is hatched. */
  now?: number | null;
  /** The value that this bar is expected to reach. */
  expected?: number | null;
  /** Opens a bar, or the part of it that one series has. */
  onOpen?: (bar: number, series: string | null) => void;
  /** The target of a click, in words. */
  opens?: string;
  height?: number;
}

const cssColor = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** For each series, the sum of the shown ones from the base to it. */
function stacked(series: Series[], hidden: Set<string>, bars: number): number[][] {
  let below = new Array<number>(bars).fill(0);
  return series.map((one) => {
    if (!hidden.has(one.name)) below = below.map((value, at) => value + (one.values[at] ?? 0));
    return below;
  });
}

/** Labels are drawn for every nth bar, so that they fit. */
function everyNth(bars: number, width: number): number {
  return Math.max(1, Math.ceil((bars * 64) / Math.max(width, 64)));
}

const WIDTH_MAX = 64;
const barShare = (bars: number) => (bars > 120 ? 0.94 : 0.78);

/** Hatches the bar that is not over, outlines the value that it is expected to reach, and marks bars with a note or a mark. */
function overlay(plot: uPlot, props: ChartProps, tops: number[]): void {
  const { ctx } = plot;
  const bars = props.bars.length;
  const x = (at: number) => plot.valToPos(at, "x", true);
  const y = (value: number) => plot.valToPos(value, "y", true);
  const width = Math.min((x(1) - x(0)) * barShare(bars), WIDTH_MAX * devicePixelRatio);
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  const now = props.now ?? null;
  if (now !== null && now < bars) {
    const [left, top, bottom] = [x(now) - width / 2, y(tops[now] ?? 0), y(0)];
    if (props.expected && props.expected > (tops[now] ?? 0)) {
      ctx.strokeStyle = cssColor("--ink-2");
      ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.strokeRect(left, y(props.expected), width, top - y(props.expected));
      ctx.setLineDash([]);
    }
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, bottom - top);
    ctx.clip();
    ctx.strokeStyle = cssColor("--surface");
    ctx.lineWidth = 2.2 * devicePixelRatio;
    ctx.beginPath();
    const [step, height] = [7 * devicePixelRatio, bottom - top];
    for (let at = left - height; at < left + width; at += step) {
      ctx.moveTo(at, bottom);
      ctx.lineTo(at + height, top);
    }
    ctx.stroke();
    ctx.restore();
  }
  const { top, height } = plot.bbox;
  ctx.strokeStyle = ctx.fillStyle = cssColor("--ink-2");
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const [at, bar] of props.bars.entries()) {
    if (!bar.mark) continue;
    ctx.beginPath();
    ctx.moveTo(x(at), top + height);
    ctx.lineTo(x(at), top);
    ctx.stroke();
    // A flag.
    ctx.beginPath();
    ctx.moveTo(x(at), top);
    ctx.lineTo(x(at) + 8 * devicePixelRatio, top + 4 * devicePixelRatio);
    ctx.lineTo(x(at), top + 8 * devicePixelRatio);
    ctx.fill();
  }
  ctx.setLineDash([]);
  ctx.fillStyle = cssColor("--warn");
  const size = 4.5 * devicePixelRatio;
  for (const [at, bar] of props.bars.entries()) {
    if (!bar.note) continue;
    const tip = y(tops[at] ?? 0) - 3 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x(at), tip);
    ctx.lineTo(x(at) - size, tip - 1.6 * size);
    ctx.lineTo(x(at) + size, tip - 1.6 * size);
    ctx.fill();
  }
  ctx.restore();
}

/** The values of a line that stand between two gaps: no stroke would show them. */
const alone = (values: (number | null)[]): number[] => [...values.keys()].filter((at) => (values[at] ?? null) !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null);

/** Each drawing calls `latest`, because the chart outlives a change of its bars and names. */
function options(latest: () => ChartProps & { tops: number[] }, width: number, height: number, onCursor: (at: number | null) => void): uPlot.Options {
  const props = latest();
  const ink = cssColor("--ink-2");
  const grid = cssColor("--line");
  const base = cssColor("--surface");
  const bars = props.bars.length;
  const gap = bars > 60 ? 0 : 1;
  const paths = uPlot.paths.bars?.({ size: [barShare(bars), WIDTH_MAX], radius: 0 });
  const font = `12px ${cssColor("--font")}`;
  const two = props.bars.some(({ short }) => short.includes("\n"));
  return {
    width,
    height,
    padding: [14, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { time: false, range: () => [-0.6, bars - 0.4] },
      y: { range: (_plot, _min, max) => { const top = Math.max(max ?? 0, latest().expected ?? 0); return [0, top > 0 ? top * 1.06 : 1]; } },
    },
    axes: [
      {
        stroke: ink, font, grid: { show: false }, ticks: { show: false }, gap: 6, size: two ? 46 : 30,
        splits: (plot) => {
          const step = everyNth(bars, plot.bbox.width / devicePixelRatio);
          return Array.from({ length: bars }, (_, at) => at).filter((at) => (bars - 1 - at) % step === 0);
        },
        values: (_plot, splits) => splits.map((at) => latest().bars[at]?.short ?? ""),
      },
      {
        stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, gap: 8, size: 62,
        values: (_plot, splits) => splits.map((value) => latest().axis(value)),
      },
    ],
    series: [
      {},
      ...[...props.series].reverse().map((one): uPlot.Series => ({
        fill: cssColor(one.color), stroke: base, width: gap, points: { show: false }, ...(paths ? { paths } : {}),
      })),
      ...(props.lines ?? []).map((one, at): uPlot.Series => ({
        stroke: cssColor(one.color), width: 2, ...(one.solid ? {} : { dash: [7, 4] }),
        points: { show: false, size: 5, fill: cssColor(one.color), filter: () => alone(latest().lines?.[at]?.values ?? []) },
      })),
    ],
    hooks: {
      setCursor: [(plot: uPlot) => onCursor(plot.cursor.idx ?? null)],
      draw: [(plot: uPlot) => overlay(plot, latest(), latest().tops)],
    },
  };
}

const NO_LINES: Line[] = [];

export function Chart(props: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hidden, setHidden] = useState<Set<string>>(new Set());
  const [cursor, setCursor] = useState<number | null>(null);
  const theme = useTheme();
  const height = props.height ?? 300;
  const bars = props.bars.length;
  const lines = props.lines ?? NO_LINES;
  const sums = useMemo(() => stacked(props.series, hidden, bars), [props.series, hidden, bars]);
  const data = useMemo(() => {
    const none = new Array<null>(bars).fill(null);
    return [Array.from({ length: bars }, (_, at) => at), ...[...sums].reverse(), ...lines.map((one) => (hidden.has(one.name) ? none : one.values))];
  }, [sums, lines, hidden, bars]);
  const latest = useRef({ ...props, sums, tops: [] as number[] });
  latest.current = { ...props, sums, tops: sums[sums.length - 1] ?? [] };
  const shape = `${theme} ${bars} ${props.bars[0]?.long} ${[...props.series, ...lines].map((one) => one.name + one.color).join("|")} ${height}`;
  /** On a touch screen, the first touch of a bar reads it out, the second opens it. */
  const touched = useRef<number | null>(null);

  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const made = new uPlot(options(() => latest.current, element.clientWidth, height, setCursor), data as uPlot.AlignedData, element);
    plot.current = made;
    const open = (event: MouseEvent) => {
      const { onOpen, sums, series } = latest.current;
      const at = Math.round(made.posToVal(event.offsetX, "x"));
      if (!onOpen || at < 0 || at >= bars) return;
      const isFirst = touched.current !== at && matchMedia("(hover: none)").matches;
      touched.current = at;
      if (isFirst) return;
      const value = made.posToVal(event.offsetY, "y");
      onOpen(at, series[sums.findIndex((sum) => (sum[at] ?? 0) >= value)]?.name ?? null);
    };
    made.over.addEventListener("click", open);
    const resized = new ResizeObserver(() => {
      if (element.clientWidth !== made.width) made.setSize({ width: element.clientWidth, height });
    });
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data, props.bars, props.expected, props.now]);

  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Enter" && cursor !== null && event.target === frame.current) return props.onOpen?.(cursor, null);
    const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, PageUp: -7, PageDown: 7, Home: -bars, End: bars };
    const step = steps[event.key];
    const made = plot.current;
    if (step === undefined || !made) return;
    event.preventDefault();
    const at = Math.min(bars - 1, Math.max(0, (cursor ?? (step > 0 ? -1 : bars)) + step));
    made.setCursor({ left: made.valToPos(at, "x"), top: 10 });
  };
  const toggle = (name: string) => {
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next);
  };
  const named = [...props.series.map((one) => ({ ...one, kind: "swatch" })), ...lines.map((one) => ({ ...one, kind: `swatch line${one.solid ? " solid" : ""}` }))];
  return (
    <figure class="chart">
      <div ref={frame} class={props.onOpen ? "plot opens" : "plot"} role="group" tabIndex={0} aria-roledescription="chart" onKeyDown={onKey} onBlur={() => setCursor(null)}
        aria-label={`${props.label}. The arrow keys read one bar after the other${props.opens ? `, Enter opens ${props.opens}` : ""}; the table below has all figures.`}>
        {cursor !== null && <Tooltip {...props} at={cursor} hidden={hidden} left={plot.current?.valToPos(cursor, "x") ?? 0} width={plot.current?.width ?? 0} />}
      </div>
      {named.length > 1 && (
        <figcaption class="legend">
          {named.map((one) => (
            <button type="button" key={one.name} aria-pressed={!hidden.has(one.name)} onClick={() => toggle(one.name)} title="Show or hide">
              <span class={one.kind} style={{ background: `var(${one.color})`, color: `var(${one.color})` }} aria-hidden="true" />
              {one.name}
            </button>
          ))}
        </figcaption>
      )}
    </figure>
  );
}

function Tooltip(props: ChartProps & { at: number; hidden: Set<string>; left: number; width: number }) {
  const bar = props.bars[props.at];
  const shown = props.series.filter((one) => !props.hidden.has(one.name) && (one.values[props.at] ?? 0) !== 0);
  const lines = (props.lines ?? []).filter((one) => !props.hidden.has(one.name) && (one.values[props.at] ?? null) !== null);
  const total = shown.reduce((sum, one) => sum + (one.values[props.at] ?? 0), 0);
  const onLeft = props.left + 62 > props.width / 2;
  const isNow = props.at === props.now;
  return (
    <div class={`tooltip${onLeft ? " on-left" : ""}`} style={{ left: `${props.left + 62}px` }} role="status">
      <div class="tooltip-head">
        <span>{bar?.long}{isNow ? ", so far" : ""}</span>
        {props.series.length > 0 && <strong>{props.format(total)}</strong>}
      </div>
      {shown.map((one) => <Row key={one.name} name={one.name} color={one.color} kind="swatch" value={props.format(one.values[props.at] ?? 0)} />)}
      {lines.map((one) => <Row key={one.name} name={one.name} color={one.color} kind={`swatch line${one.solid ? " solid" : ""}`} value={props.format(one.values[props.at] ?? 0)} />)}
      {props.series.length === 0 && lines.length === 0 && <div class="tooltip-note">No value</div>}
      {isNow && props.expected ? <div class="tooltip-note">Expected by its end: {props.format(props.expected)}</div> : null}
      {bar?.mark && <div class="tooltip-note">{bar.mark}</div>}
      {bar?.note && <div class="tooltip-note warn">{bar.note}</div>}
      {props.opens && <div class="tooltip-note">Click: {props.opens}</div>}
    </div>
  );
}

function Row(props: { name: string; color: string; kind: string; value: string }) {
  return (
    <div class="tooltip-row">
      <span class={props.kind} style={{ background: `var(${props.color})`, color: `var(${props.color})` }} />
      <span>{props.name}</span>
      <span>{props.value}</span>
    </div>
  );
}
