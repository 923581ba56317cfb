// A miniature daemon: it welcomes clients, keeps their records, and acknowledges on command or at once.

import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decode, encode } from "@msgpack/msgpack";

/**
 * `acks`: acknowledge at once, with `costs` for each record. `keep`: keep the records. A known producer is told its last number, as by the daemon.
 * `budgets`: their state in the welcome. `tell` sends another. `refuses`: the secrets of producers that are refused.
 */
export async function miniature(t, { acks = false, costs, keep = true, budgets, refuses = new Set() } = {}) {
  const socket = join(mkdtempSync(join(tmpdir(), "tallyd-mini-")), "s");
  const records = [];
  const last = new Map();
  let newest;
  const server = createServer((stream) => {
    const say = (message) => {
      const body = encode(message);
      const head = Buffer.alloc(4);
      head.writeUInt32BE(body.length);
      stream.write(Buffer.concat([head, body]));
    };
    newest = { stream, say };
    stream.on("error", () => {});
    let [pieces, held, secret] = [[], 0, ""];
    stream.on("data", (piece) => {
      pieces.push(piece);
      held += piece.length;
      let bytes = Buffer.concat(pieces, held);
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE(0)) {
        const message = decode(bytes.subarray(4, 4 + bytes.readUInt32BE(0)), { useBigInt64: true });
        bytes = bytes.subarray(4 + bytes.readUInt32BE(0));
        if (message.hello) {
          secret = message.hello.secret;
          if (refuses.has(secret)) {
            say({ error: { code: "secret", message: "no" } });
            continue;
          }
          say({ welcome: { protocol: 2, last_seq: last.get(secret) ?? 0, max_frame_bytes: 1 << 20, max_records: 10_000, ...(budgets ? { budgets } : {}) } });
          continue;
        }
        if (message.watch) continue;
        const { first_seq, records: brought } = message.records;
        const fresh = brought.slice(Math.max(0, (last.get(secret) ?? 0) + 1 - Number(first_seq)));
        if (keep) records.push(...fresh);
        const seq = Number(first_seq) + brought.length - 1;
        last.set(secret, Math.max(seq, last.get(secret) ?? 0));
        if (acks) say({ ack: { seq, ...(costs === undefined ? {} : { costs: brought.map(() => costs) }) } });
      }
      [pieces, held] = [[bytes], bytes.length];
    });
  });
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => (newest?.stream.destroy(), server.close()));
  return { socket, records, ack: (seq) => newest.say({ ack: { seq } }), tell: (budgets) => newest.say({ budgets }) };
}
