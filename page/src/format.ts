// Numbers, times and names as people read them.

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** 1,234,567 as 1.23M: where the order of magnitude is what matters. */
export function compact(value: number): string {
  return value < 10_000 ? count(value) : new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const DAY_SHORT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });

/** `2026-11-23` as `23 Nov 2026`. */
export function day(text: string): string {
  return DAY.format(new Date(`${text}T00:00:00Z`));
}

export function dayShort(text: string): string {
  return DAY_SHORT.format(new Date(`${text}T00:00:00Z`));
}

export function month(text: string): string {
  return MONTH.format(new Date(`${text}T00:00:00Z`));
}

/** An instant in the browser's zone: `23 Nov, 15:16:52`. */
export function instant(text: string | null, seconds = true): string {
  if (!text) return "never";
  const at = new Date(text);
  const options: Intl.DateTimeFormatOptions = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (seconds) options.second = "2-digit";
  if (at.getFullYear() !== new Date().getFullYear()) options.year = "numeric";
  return at.toLocaleString("en-GB", options);
}

const STEPS: [number, Intl.RelativeTimeFormatUnit][] = [[60, "second"], [60, "minute"], [24, "hour"], [365, "day"]];

/** `3 minutes ago`. */
export function ago(text: string | null, now = Date.now()): string {
  if (!text) return "never";
  let value = (new Date(text).getTime() - now) / 1000;
  for (const [size, unit] of STEPS) {
    if (Math.abs(value) < size || unit === "day") {
      return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(Math.trunc(value), unit);
    }
    value /= size;
  }
  return text;
}

export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** Names of providers as they write themselves. */
export function provider(name: string): string {
  const known: Record<string, string> = { claude: "Claude", rentcast: "RentCast", openai: "OpenAI" };
  return known[name] ?? name;
}

/** `2026-11-23`, of the reporting time zone. */
export function today(zone: string): string {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(new Date());
}
