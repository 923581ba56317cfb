// A stacked bar chart over time: hover or arrow keys read a bar out, the legend's buttons take series away.
//
// uPlot draws on a canvas, so the chart is for eyes; the table beneath has the same figures for screen readers. Bars
// are stacked by drawing sums from the largest down, each over the one before.

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

export interface ChartProps {
  label: string;
  /** Each bar's names on the axis and in the tooltip. */
  bars: { short: string; long: string }[];
  series: Series[];
  format: (value: number) => string;
  axis: (value: number) => string;
  /** Whether the last bar's period is not over yet. */
  unfinished?: boolean;
  height?: number;
}

const cssColor = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** For each shown series, the sum from it to the last shown one. */
function stacked(series: Series[], hidden: Set<string>, bars: number): number[][] {
  const sums: number[][] = [];
  let above = new Array<number>(bars).fill(0);
  for (const one of [...series].reverse()) {
    if (!hidden.has(one.name)) above = above.map((value, at) => value + (one.values[at] ?? 0));
    sums.unshift(above);
  }
  return sums;
}

/** Labels are drawn for every nth bar, so that they fit. */
function everyNth(bars: number, width: number): number {
  return Math.max(1, Math.ceil((bars * 64) / Math.max(width, 64)));
}

/** Each drawing calls `latest`, because the chart outlives a change of its bars and names. */
function options(latest: () => ChartProps, width: number, height: number, onCursor: (at: number | null) => void): uPlot.Options {
  const props = latest();
  const ink = cssColor("--ink-2");
  const grid = cssColor("--line");
  const base = cssColor("--surface");
  const bars = props.bars.length;
  const gap = bars > 60 ? 0 : 1;
  const paths = uPlot.paths.bars?.({ size: [bars > 120 ? 0.94 : 0.78, 64], radius: 0 });
  const font = `12px ${cssColor("--font")}`;
  return {
    width,
    height,
    padding: [10, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { time: false, range: () => [-0.6, bars - 0.4] },
      y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.06 : 1] },
    },
    axes: [
      {
        stroke: ink, font, grid: { show: false }, ticks: { show: false }, gap: 6, size: 30,
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
      ...props.series.map((one) => ({
        fill: cssColor(one.color), stroke: base, width: gap, points: { show: false }, ...(paths ? { paths } : {}),
      })),
    ],
    hooks: {
      setCursor: [(plot: uPlot) => onCursor(plot.cursor.idx ?? null)],
    },
  };
}

export function Chart(props: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [hidden, setHidden] = useState<Set<string>>(new Set());
  const [cursor, setCursor] = useState<number | null>(null);
  const theme = useTheme();
  const height = props.height ?? 300;
  const bars = props.bars.length;
  const data = useMemo(() => [Array.from({ length: bars }, (_, at) => at), ...stacked(props.series, hidden, bars)], [props.series, hidden, bars]);
  const shape = `${theme} ${bars} ${props.bars[0]?.long} ${props.series.map((one) => one.name + one.color).join("|")} ${height}`;

  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const made = new uPlot(options(() => latest.current, element.clientWidth, height, setCursor), data as uPlot.AlignedData, element);
    plot.current = made;
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
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);

  const move = (event: KeyboardEvent) => {
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
  return (
    <figure class="chart">
      <div ref={frame} class="plot" role="group" tabIndex={0} aria-roledescription="chart" onKeyDown={move} onBlur={() => setCursor(null)}
        aria-label={`${props.label}. The arrow keys read one bar after the other; the table below has all figures.`}>
        {cursor !== null && <Tooltip {...props} at={cursor} hidden={hidden} left={plot.current?.valToPos(cursor, "x") ?? 0} width={plot.current?.width ?? 0} />}
      </div>
      {props.series.length > 1 && (
        <figcaption class="legend">
          {props.series.map((one) => (
            <button type="button" key={one.name} aria-pressed={!hidden.has(one.name)} onClick={() => toggle(one.name)} title="Show or hide">
              <span class="swatch" style={{ background: `var(${one.color})` }} aria-hidden="true" />
              {one.name}
            </button>
          ))}
        </figcaption>
      )}
    </figure>
  );
}

function Tooltip(props: ChartProps & { at: number; hidden: Set<string>; left: number; width: number }) {
  const shown = props.series.filter((one) => !props.hidden.has(one.name) && (one.values[props.at] ?? 0) !== 0);
  const total = shown.reduce((sum, one) => sum + (one.values[props.at] ?? 0), 0);
  const onLeft = props.left + 62 > props.width / 2;
  const last = props.unfinished && props.at === props.bars.length - 1;
  return (
    <div class={`tooltip${onLeft ? " on-left" : ""}`} style={{ left: `${props.left + 62}px` }} role="status">
      <div class="tooltip-head">
        <span>{props.bars[props.at]?.long}{last ? ", so far" : ""}</span>
        <strong>{props.format(total)}</strong>
      </div>
      {shown.map((one) => (
        <div key={one.name} class="tooltip-row">
          <span class="swatch" style={{ background: `var(${one.color})` }} />
          <span>{one.name}</span>
          <span>{props.format(one.values[props.at] ?? 0)}</span>
        </div>
      ))}
    </div>
  );
}
