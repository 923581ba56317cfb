// Runs behind the checkbox that opens the contents, before they are drawn: open on a wide screen, unless the reader has closed them.
const is_open = document.body.clientWidth >= 1080 && stored("mdbook-sidebar") !== "hidden";
document.getElementById("mdbook-sidebar-toggle-anchor").checked = is_open;
page.classList.toggle("sidebar-visible", is_open);
addEventListener("DOMContentLoaded", () => {
  document.getElementById("mdbook-sidebar-toggle").setAttribute("aria-expanded", is_open);
  document.getElementById("mdbook-sidebar").setAttribute("aria-hidden", !is_open);
  for (const link of document.querySelectorAll("#mdbook-sidebar a")) link.tabIndex = is_open ? 0 : -1;
});
