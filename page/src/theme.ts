// Light, dark, or the system's choice. Kept in the browser; it is neither a secret nor a cookie.

import { useEffect, useState } from "preact/hooks";

export type Theme = "system" | "light" | "dark";
const KEY = "tallyd-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const changed = new EventTarget();

export function chosen(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : "system";
}

export function choose(theme: Theme): void {
  if (theme === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme);
  apply();
}

let printing = false;
const effective = (): "light" | "dark" => {
  if (printing) return "light";
  const theme = chosen();
  return theme === "system" ? (dark.matches ? "dark" : "light") : theme;
};

export function apply(): void {
  document.documentElement.dataset["theme"] = effective();
  changed.dispatchEvent(new Event("change"));
}

/** Prints the page in light colours. Charts are drawn by then: they take two frames. */
export function printLight(): void {
  const show = (theme: "light" | "dark") => {
    printing = theme === "light";
    document.documentElement.dataset["theme"] = theme;
    changed.dispatchEvent(new Event("change"));
  };
  const before = effective();
  show("light");
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => {
    print();
    show(before);
  })));
}

/** The shown theme, light or dark: charts are drawn anew when it changes. */
export function useTheme(): "light" | "dark" {
  const [theme, setTheme] = useState(effective);
  useEffect(() => {
    const update = () => setTheme(effective());
    changed.addEventListener("change", update);
    return () => changed.removeEventListener("change", update);
  }, []);
  return theme;
}

dark.addEventListener("change", apply);
