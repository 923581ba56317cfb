// The platform of Node, Bun and Deno. Importing this module installs it.

import { AsyncLocalStorage } from "node:async_hooks";
import { createHash } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect } from "node:net";
import { hostname } from "node:os";
import type { Context } from "./context.js";
import { watchEnd } from "./exit.js";
import { type Answer, platform } from "./platform.js";
import { connectSocket, type Open } from "./socket-link.js";
import { spools } from "./spool.js";

const WRITES_MAX = 1024 * 1024;

const open: Open = (target, events) => {
  const link = connect(target);
  let said: Error | undefined;
  link.setNoDelay(true);
  // Only the wait at the process's end keeps the process alive.
  link.unref();
  link.on("connect", () => events.open());
  link.on("data", (piece) => events.data(piece));
  link.on("drain", () => events.drained());
  link.on("error", (error) => (said = error));
  link.on("close", () => events.closed(said));
  return {
    write: (bytes) => void link.write(bytes),
    get full() {
      return link.destroyed || link.writableLength >= WRITES_MAX;
    },
    destroy: (error) => void link.destroy(error),
  };
};

function post(url: string, headers: Record<string, string>, body: Uint8Array, timeout: number, ca?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    // Read for each request, so that a renewed authority needs no restart.
    const trusted = ca === undefined ? {} : { ca: readFileSync(ca) };
    const send = url.startsWith("https:") ? requestHttps : requestHttp;
    const asked = send(url, { method: "POST", headers: { ...headers, "content-length": body.length }, timeout, ...trusted }, (answer) => {
      const pieces: Buffer[] = [];
      answer.on("data", (piece: Buffer) => pieces.push(piece));
      answer.on("error", reject);
      answer.on("end", () => {
        resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(pieces).toString("utf8"), retryAfter: answer.headers["retry-after"] ?? null });
      });
    });
    asked.on("socket", (socket) => socket.unref());
    asked.on("timeout", () => asked.destroy(new Error(`no answer in ${timeout} ms`)));
    asked.on("error", reject);
    asked.end(body);
  });
}

Object.assign(platform, {
  env: (name) => process.env[name],
  warn: (message, ending) => {
    // A warning of the process is written in a later turn of the event loop, which does not come at the end.
    if (ending) writeSync(2, `${message}\n`);
    else process.emitWarning(message, "TallydWarning");
  },
  connect: connectSocket(open),
  post,
  sha256: (text) => createHash("sha256").update(text).digest("hex"),
  host: () => `${hostname()}-${process.pid}`,
  context: new AsyncLocalStorage<Context>(),
  spools,
  watchEnd,
} satisfies typeof platform);
