// Colours of series. They can be told apart with every kind of colour blindness, and stand out from the background by
// 3:1; the values are in style/colors.css. Common providers keep their colours from view to view.

export const COLORS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"] as const;
/** The colour of all further series together. */
export const OTHER = "--c0";

const FIXED: Record<string, string> = { claude: "--c1", rentcast: "--c2", openai: "--c3", google: "--c4" };

/** A colour for each name, in order. Names with a fixed colour get that one. */
export function colorsOf(names: string[]): string[] {
  const taken = new Set(names.map((name) => FIXED[name]).filter(Boolean));
  const free = COLORS.filter((color) => !taken.has(color));
  let next = 0;
  return names.map((name) => FIXED[name] ?? free[next++] ?? OTHER);
}
