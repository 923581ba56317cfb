// The application of tests/spool.test.mjs: it records calls, and writes a line after each `record()` that has returned true, until it is killed.

import { writeSync } from "node:fs";
import { Recorder } from "../../dist/esm/index.js";

const [, , socket, folder, life] = process.argv;
if (life !== undefined) {
  const recorder = new Recorder({ socket, app: "spooling", spool: folder, spoolBytes: 1, quiet: true });
  for (let number = 1; ; number += 1) {
    if (recorder.record({ provider: "claude", model: "m", input_tokens: number, user_id: life })) writeSync(1, `taken ${number}\n`);
    if (number % 16 === 0) await new Promise((wake) => setTimeout(wake, 1));
  }
}
