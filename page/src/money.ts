// Amounts as the API sends them: decimal text. They are added and rounded as whole numbers of 10^-18 USD, so that no sum on
// this page differs from the daemon's. Only a chart's pixels are binary floats.

import { short } from "./format";

/** 10^-18 USD. */
export type Attos = bigint;

const DECIMALS = 18;
const ONE = 10n ** 18n;

/** Reads decimal text, such as "-12.50". A missing amount counts as 0. */
export function parse(text: string | null | undefined): Attos {
  const match = /^(-?)(\d+)(?:\.(\d{1,18}))?$/.exec(text ?? "");
  if (!match) return 0n;
  const whole = BigInt(match[2] ?? "0") * ONE + BigInt((match[3] ?? "").padEnd(DECIMALS, "0"));
  return match[1] ? -whole : whole;
}

/** As decimal text without trailing zeros. */
export function text(amount: Attos): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(DECIMALS + 1, "0");
  const fraction = digits.slice(-DECIMALS).replace(/0+$/, "");
  return `${amount < 0n ? "-" : ""}${digits.slice(0, -DECIMALS)}${fraction ? `.${fraction}` : ""}`;
}

/** For a chart's pixels. */
export function toFloat(amount: Attos): number {
  return Number(amount) / 1e18;
}

export function sum(amounts: Iterable<Attos>): Attos {
  let total = 0n;
  for (const amount of amounts) total += amount;
  return total;
}

/**
 * Rounded half up to `decimals`: the sign before the dollar, the grouped whole part, and a fraction with exactly that
 * number of digits. An amount that would round to 0 is shown as less than the least.
 */
export function parts(amount: Attos, decimals: number): { sign: string; whole: string; fraction: string } {
  const unit = 10n ** BigInt(DECIMALS - decimals);
  const size = amount < 0n ? -amount : amount;
  const below = size > 0n && size < unit / 2n;
  const rounded = below ? 1n : (size + unit / 2n) / unit;
  const sign = amount < 0n ? "−" : "";
  const digits = rounded.toString().padStart(decimals + 1, "0");
  const whole = decimals > 0 ? digits.slice(0, -decimals) : digits;
  return {
    sign: below ? (sign ? "> −" : "< ") : sign,
    whole: whole.replace(/\B(?=(\d{3})+$)/g, ","),
    fraction: decimals > 0 ? digits.slice(-decimals) : "",
  };
}

/** "$1,234.56"; an amount below a cent gets as many decimals as it needs to be visible. */
export function usd(amount: Attos, decimals = fitting(amount)): string {
  const { sign, whole, fraction } = parts(amount, decimals);
  return `${sign}$${whole}${fraction ? `.${fraction}` : ""}`;
}

/** The decimals for an amount on its own. */
export function fitting(amount: Attos): number {
  const size = amount < 0n ? -amount : amount;
  if (size === 0n || size >= ONE / 100n) return 2;
  return size >= ONE / 10_000n ? 4 : 6;
}

/** A chart's value as text. */
export const usdOf = (value: number): string => usd(BigInt(Math.round(value * 1e18)));

/** A label of a chart's axis. */
export function axisUsd(value: number): string {
  if (value === 0) return "$0";
  if (value >= 10) return `$${short(value)}`;
  // Below a dollar with two decimals, if the value has whole cents.
  const cents = value < 1 && Number.isInteger(Math.round(value * 1e6) / 1e4);
  return `$${cents ? value.toFixed(2) : value.toLocaleString("en-US", { maximumSignificantDigits: 2 })}`;
}

/** a ÷ b in percent with one decimal; null if b is 0. */
export function percent(a: Attos, b: Attos): number | null {
  return b === 0n ? null : Math.round(Number((a * 100_000n) / b) / 100) / 10;
}
