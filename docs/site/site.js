// Runs before the page is drawn, in place of the inline scripts of mdbook's own template: names that its scripts read, and the theme.
const page = document.documentElement;
const path_to_root = page.dataset.root;
window.path_to_searchindex_js = page.dataset.index;
window.playground_copyable = true;
const default_light_theme = "light";
const default_dark_theme = "navy";
const default_theme = matchMedia("(prefers-color-scheme: dark)").matches ? default_dark_theme : default_light_theme;
const stored = (name) => {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // A browser that keeps nothing.
  }
};
page.classList.remove(default_light_theme);
page.classList.add(stored("mdbook-theme") ?? default_theme, "js");
