// The entry of Node, Bun and Deno.
import "./node.js";

export * from "./all.js";
