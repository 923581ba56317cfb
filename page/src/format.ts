// Counts, days and times as a person reads them.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value: number): string => WHOLE.format(value);
/** A number and its noun, which may have its verb with it: "1 record was", "2 records were". */
export const noun = (value: number, one: string, many: string): string => `${count(value)} ${value === 1 ? one : many}`;
/** With a capital, to begin a sentence. */
export const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
/** 1.2K, 3.4M: for axes and tiles. */
export const short = (value: number): string => (Math.abs(value) < 10_000 ? WHOLE.format(value) : SHORT.format(value));

export function percentage(value: number | null, signed = false): string {
  if (value === null) return "—";
  const size = Math.abs(value) >= 100 ? WHOLE.format(value) : value.toFixed(1);
  return `${signed && value > 0 ? "+" : ""}${size.replace("-", "−")} %`;
}

export function bytes(value: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  let size = value;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at === 0 || size >= 100 ? size.toFixed(0) : size.toFixed(1)} ${units[at]}`;
}

export function seconds(value: number): string {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86_400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86_400)} d ${Math.floor((value % 86_400) / 3600)} h`;
}

/** A latency. */
export const milliseconds = (value: number): string => (value < 1_000 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(value < 10_000 ? 2 : 1)} s`);

// Days are dates of the reporting time zone, not instants: they are calculated in UTC, where each has 24 hours.
const day = (text: string): Date => new Date(`${text}T00:00:00Z`);
export const isoDay = (date: Date): string => date.toISOString().slice(0, 10);

export function addDays(text: string, days: number): string {
  const date = day(text);
  date.setUTCDate(date.getUTCDate() + days);
  return isoDay(date);
}

export function daysBetween(from: string, to: string): number {
  return Math.round((day(to).getTime() - day(from).getTime()) / 86_400_000);
}

/** Today, in the reporting time zone. */
export function today(zone: string): string {
  const parts = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" });
  return parts.format(new Date());
}

const DAY = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", month: "short", day: "numeric" });
const LONG_DAY = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", weekday: "short", month: "short", day: "numeric", year: "numeric" });
const MONTH = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", month: "short", year: "numeric" });

export const shortDay = (text: string): string => DAY.format(day(text));
export const longDay = (text: string): string => LONG_DAY.format(day(text));
export const month = (text: string): string => MONTH.format(day(text));

/** An instant in the reporting time zone, to the second. */
export function instant(text: string | null, zone: string): string {
  if (!text) return "—";
  const format = new Intl.DateTimeFormat("en-CA", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23",
  });
  return format.format(new Date(text)).replace(",", "");
}

/** The hour that an instant lies in, in the reporting time zone: "14:00". */
export function hourOf(date: Date, zone: string): string {
  const hour = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", hourCycle: "h23" }).format(date);
  return `${hour.slice(0, 2)}:00`;
}

/** "5 min ago". */
export function ago(text: string | null): string {
  if (!text) return "never";
  const past = (Date.now() - new Date(text).getTime()) / 1000;
  if (past < 0) return "just now";
  if (past < 60) return `${Math.floor(past)} s ago`;
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86_400) return `${Math.floor(past / 3600)} h ago`;
  return `${Math.floor(past / 86_400)} d ago`;
}
