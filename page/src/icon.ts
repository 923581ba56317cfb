// The icon, by the path that the document names: it has a digest in it.

export const ICON = document.querySelector<HTMLLinkElement>("link[rel=icon]")?.href ?? "";
