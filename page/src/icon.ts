// The icon, by the path in the document, which contains a digest.

export const ICON = document.querySelector<HTMLLinkElement>("link[rel=icon]")?.href ?? "";
