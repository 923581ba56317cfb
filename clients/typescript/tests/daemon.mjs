// A real daemon with a PostgreSQL of its own: the one that the page is tested with, and what the Node client's tests ask of it besides.

import { join } from "node:path";
import { Daemon } from "../../../page/tests/daemon.mjs";

export { until } from "../../../page/tests/daemon.mjs";

class ClientsDaemon extends Daemon {
  get data() {
    return this.folder;
  }

  get socket() {
    return join(this.folder, "tallyd.sock");
  }

  async kill() {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await ended;
  }
}

export const startDaemon = () => ClientsDaemon.start();
