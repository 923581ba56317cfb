// A real daemon with its own PostgreSQL: the one of the page's tests, with functions for the Node client's tests.

import { join } from "node:path";
import { Daemon } from "../../../page/tests/daemon.mjs";

export { freePort, until } from "../../../page/tests/daemon.mjs";

export async function startDaemon(options) {
  const daemon = await Daemon.start(options);
  const kill = async () => {
    const ended = new Promise((done) => daemon.process.once("exit", done));
    daemon.process.kill("SIGKILL");
    await ended;
  };
  return Object.assign(daemon, { socket: join(daemon.folder, "tallyd.sock"), data: daemon.folder, kill });
}
