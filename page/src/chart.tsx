// Charts, by uPlot. A table under each has the same numbers for those who do not see it.

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { money, short, type Usd, toNumber } from "./money";

export interface Series { name: string; values: Usd[] }

/** As many hues as people tell apart, also those who see red and green alike; what is beyond is "other". */
export const COLOURS = 8;

export function colour(at: number, of: number, other: boolean): string {
  const name = other && at === of - 1 ? "--series-other" : `--series-${at % COLOURS}`;
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const HEIGHT = 280;

/** Redraws when light turns to dark. */
function useScheme(): string {
  const [scheme, setScheme] = useState("");
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setScheme(`${media.matches}${document.documentElement.dataset["theme"] ?? ""}`);
    changed();
    media.addEventListener("change", changed);
    const observer = new MutationObserver(changed);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      media.removeEventListener("change", changed);
      observer.disconnect();
    };
  }, []);
  return scheme;
}

function variable(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axes(labels: string[]): uPlot.Axis[] {
  const font = "12px system-ui, sans-serif";
  const common = { stroke: variable("--muted"), font, ticks: { show: false } };
  return [
    { ...common, grid: { show: false }, size: 30, space: 64, splits: (_u, _i, min, max) => evenly(labels.length, min, max), values: (_u, splits) => splits.map((at) => labels[at] ?? "") },
    { ...common, grid: { stroke: variable("--line"), width: 1 }, size: 62, values: (_u, splits) => splits.map(short) },
  ];
}

function evenly(count: number, min: number, max: number): number[] {
  const step = Math.max(1, Math.ceil(count / (innerWidth < 700 ? 4 : 9)));
  const all = Array.from({ length: Math.ceil(count / step) }, (_, at) => at * step);
  return all.filter((at) => at >= min && at <= max);
}

/** Draws into the element for as long as it is there, and as wide as it is. */
function usePlot(make: (width: number) => { options: uPlot.Options; data: uPlot.AlignedData }, key: unknown[]) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = host.current!;
    const { options, data } = make(element.clientWidth);
    const plot = new uPlot(options, data, element);
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: options.height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, key);
  return host;
}

interface Hover { at: number; left: number }

function hoverHook(count: number, set: (hover: Hover | undefined) => void): uPlot.Plugin {
  return {
    hooks: {
      setCursor: (plot) => {
        const at = plot.cursor.idx;
        const left = plot.cursor.left ?? -1;
        set(at === null || at === undefined || left < 0 || at >= count ? undefined : { at, left: left + plot.bbox.left / devicePixelRatio });
      },
    },
  };
}

/** Stacked bars, one a bucket. Names toggle their series. */
export function Stack(props: { label: string; buckets: string[]; names: (bucket: string) => string; series: Series[]; other: boolean }) {
  const { buckets, series } = props;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [hover, setHover] = useState<Hover>();
  const scheme = useScheme();
  const shown = series.filter((one) => !hidden.has(one.name));
  const key = `${buckets.join()}|${shown.map((one) => one.name + one.values.join()).join("|")}`;
  const host = usePlot((width) => {
    // Drawn from the whole stack down to its lowest part, so that each bar covers what is below it.
    const sums: number[][] = [];
    const running = buckets.map(() => 0n);
    for (const one of shown) {
      one.values.forEach((value, at) => (running[at] = (running[at] ?? 0n) + value));
      sums.unshift(running.map(toNumber));
    }
    const fills = shown.map((one) => colour(series.indexOf(one), series.length, props.other)).reverse();
    const bars = uPlot.paths.bars!({ size: [0.72, 56, 1] });
    const options: uPlot.Options = {
      width, height: HEIGHT, legend: { show: false }, padding: [12, 8, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: () => [-0.6, buckets.length - 0.4] }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.06 : 1] } },
      axes: axes(buckets.map(props.names)),
      series: [{}, ...fills.map((fill) => ({ fill, width: 0, paths: bars, points: { show: false } }))],
      plugins: [hoverHook(buckets.length, setHover)],
    };
    return { options, data: [buckets.map((_, at) => at), ...sums] as uPlot.AlignedData };
  }, [key, scheme]);
  const toggle = (name: string) => {
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next.size === series.length ? new Set() : next);
  };
  const total = hover && shown.reduce((sum, one) => sum + (one.values[hover.at] ?? 0n), 0n);
  return (
    <div class="chart">
      <div class="plot" ref={host} role="img" aria-label={props.label}>
        {hover && (
          <div class={hover.left > (host.current?.clientWidth ?? 0) / 2 ? "tip left" : "tip"} style={{ left: `${hover.left}px` }}>
            <strong>{props.names(buckets[hover.at]!)} <span>{money(total!)}</span></strong>
            {[...shown].reverse().filter((one) => one.values[hover.at] !== 0n).map((one) => (
              <div key={one.name}>
                <i style={{ background: colour(series.indexOf(one), series.length, props.other) }} />{one.name}
                <span>{money(one.values[hover.at]!)}</span>
              </div>
            ))}
          </div>
        )}
      </div>
      <ul class="legend">
        {series.map((one, at) => (
          <li key={one.name}>
            <button type="button" aria-pressed={!hidden.has(one.name)} title="Show or hide" onClick={() => toggle(one.name)}>
              <i style={{ background: colour(at, series.length, props.other) }} />{one.name}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

export interface Point { day: string; spent?: number; expected?: number; low?: number; high?: number }

/** What was, and what is expected with its band. */
export function Outlook(props: { label: string; points: Point[]; names: (day: string) => string }) {
  const { points } = props;
  const [hover, setHover] = useState<Hover>();
  const scheme = useScheme();
  const host = usePlot((width) => {
    const line = variable("--series-0");
    const column = (read: (point: Point) => number | undefined) => points.map((point) => read(point) ?? null);
    const options: uPlot.Options = {
      width, height: 200, legend: { show: false }, padding: [12, 8, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.06 : 1] } },
      axes: axes(points.map((point) => props.names(point.day))),
      bands: [{ series: [3, 4], fill: variable("--band") }],
      series: [
        {},
        { stroke: line, width: 2, fill: variable("--area"), points: { show: false } },
        { stroke: line, width: 2, dash: [5, 4], points: { show: false } },
        { stroke: "transparent", points: { show: false } },
        { stroke: "transparent", points: { show: false } },
      ],
      plugins: [hoverHook(points.length, setHover)],
    };
    const data = [points.map((_, at) => at), column((p) => p.spent), column((p) => p.expected), column((p) => p.high), column((p) => p.low)];
    return { options, data: data as uPlot.AlignedData };
  }, [JSON.stringify(points), scheme]);
  const at = hover && points[hover.at];
  const dollars = (value: number) => value.toLocaleString("en-US", { style: "currency", currency: "USD" });
  return (
    <div class="chart">
      <div class="plot low" ref={host} role="img" aria-label={props.label}>
        {at && (
          <div class={hover.left > (host.current?.clientWidth ?? 0) / 2 ? "tip left" : "tip"} style={{ left: `${hover.left}px` }}>
            <strong>{props.names(at.day)} <span>{dollars(at.spent ?? at.expected ?? 0)}</span></strong>
            {at.spent === undefined && at.low !== undefined && <div>expected, within<span>{dollars(at.low)} – {dollars(at.high ?? 0)}</span></div>}
          </div>
        )}
      </div>
    </div>
  );
}
