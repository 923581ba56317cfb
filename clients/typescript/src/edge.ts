// The entry of edge runtimes and browsers: nothing of Node is imported, and records go over HTTPS.
export * from "./all.js";
