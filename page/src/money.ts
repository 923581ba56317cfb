// Amounts. The API sends exact decimal text; sums here are exact too (whole attodollars), and only what is shown is rounded.

const ATTOS = 18;

/** An amount in 10⁻¹⁸ USD. */
export type Usd = bigint;

export function usd(text: string): Usd {
  const negative = text.startsWith("-");
  const [whole = "0", part = ""] = text.replace("-", "").split(".");
  const attos = BigInt(whole + part.slice(0, ATTOS).padEnd(ATTOS, "0"));
  return negative ? -attos : attos;
}

export function sum(amounts: Iterable<string>): Usd {
  let total = 0n;
  for (const amount of amounts) total += usd(amount);
  return total;
}

/** For charts, whose pixels need no more. */
export function toNumber(amount: Usd): number {
  return Number(amount) / 1e18;
}

/** As text with every digit. */
export function exact(amount: Usd): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(ATTOS + 1, "0");
  const part = digits.slice(-ATTOS).replace(/0+$/, "");
  return `${amount < 0n ? "-" : ""}${digits.slice(0, -ATTOS)}${part ? `.${part}` : ""}`;
}

/** For people: `$1,234.50`. What would read as nothing and is not says so. */
export function money(amount: Usd | string, digits = 2): string {
  const value = toNumber(typeof amount === "string" ? usd(amount) : amount);
  const least = 10 ** -digits;
  if (value !== 0 && Math.abs(value) < least / 2) return `${value < 0 ? "−" : ""}<$${least.toFixed(digits)}`;
  const text = Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${value < 0 ? "−" : ""}$${text}`;
}

/** On an axis: `$1.2k`. */
export function short(value: number): string {
  if (value === 0) return "$0";
  const size = Math.abs(value);
  if (size >= 1e6) return `$${trim(value / 1e6)}M`;
  if (size >= 1e3) return `$${trim(value / 1e3)}k`;
  if (size >= 1) return `$${trim(value)}`;
  return `$${value.toPrecision(2).replace(/\.?0+$/, "")}`;
}

function trim(value: number): string {
  return value.toFixed(2).replace(/\.?0+$/, "");
}
