// The entry of edge runtimes and browsers: it imports nothing of Node, and records go over HTTPS.
export * from "./all.js";
