// The folder of spools: a file for each recorder, locked while its process lives.
//
// `put` writes the record into the file before it returns, so it is in the page cache: a SIGKILL of the process leaves it there, a loss of power may
// not. Nothing is synced.
//
// The lock is `flock`, which the kernel releases when the process ends, however it ends; the other clients use it too. Node has no function for it,
// so the program `flock` locks the file for this process: such a lock belongs to the open file, which the program inherits. A process that finds a
// file without a lock owns it, if the file still has its name.

import { spawn, spawnSync } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, unlinkSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Orphan, Spool, Spools } from "./platform.js";
import { crc32, ENTRY_BYTES, HEAD_BYTES, headBytes, readSpool, SETTLED_AT, UNIT, units, writeEntry, writeSeq } from "./spool-format.js";
import { randomHex } from "./uuid.js";

/** Bounds of the room for entries, in bytes: more than twice the largest record, so that one fits wherever the last one ended; and 64 GiB. */
const [AREA_MIN, AREA_MAX] = [4 * 1024 * 1024, 2 ** 36];
const LOCK = ["-n", "-x", "3"];

export class FileSpool implements Spool {
  readonly #fd: number;
  readonly #path: string;
  readonly #area: number;
  readonly #salted: number;
  #entry = Buffer.allocUnsafe(4096);
  readonly #settledBytes = new DataView(new ArrayBuffer(8));
  /** The last number, and the highest settled one. */
  #last = 0;
  #settled = 0;
  /** The first free unit, and the first one that is not free, counted over all laps. */
  #tail = 0;
  #freed = 0;
  /** Where each entry that is not settled ends. */
  #ends: number[] = [];

  /** Makes a file in a folder that is prepared. Its user alone can read it, because it has the producer's secret. */
  constructor(readonly folder: string, bytes: number, producer: string, secret: string) {
    const area = Math.ceil(Math.min(AREA_MAX, Math.max(AREA_MIN, bytes)) / UNIT) * UNIT;
    const salt = crypto.getRandomValues(new Uint8Array(8));
    [this.#fd, this.#path] = create(folder);
    [this.#area, this.#salted] = [area / UNIT, crc32(salt)];
    try {
      this.#write(headBytes({ producer, secret, salt, area }), HEAD_BYTES, 0);
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  fits(bytes: number): boolean {
    return this.#place(units(bytes)) !== undefined;
  }

  put(record: Uint8Array): number | undefined {
    const size = units(record.length);
    const at = this.#place(size);
    if (at === undefined) return undefined;
    if (this.#entry.length < ENTRY_BYTES + record.length) this.#entry = Buffer.allocUnsafe(2 * (ENTRY_BYTES + record.length));
    this.#write(this.#entry, writeEntry(this.#entry, this.#salted, this.#last + 1, record), HEAD_BYTES + (at % this.#area) * UNIT);
    this.#tail = at + size;
    this.#ends.push(this.#tail);
    return (this.#last += 1);
  }

  settle(seq: number): void {
    const count = seq - this.#settled;
    if (count <= 0) return;
    writeSeq(this.#settledBytes, 0, seq);
    this.#write(this.#settledBytes, 8, SETTLED_AT);
    this.#settled = seq;
    this.#freed = this.#ends[count - 1]!;
    this.#ends.splice(0, count);
  }

  remove(): void {
    try {
      unlinkSync(this.#path);
    } catch {
      // The next start finds nothing in it, and deletes it.
    }
    this.release();
  }

  release(): void {
    closeSync(this.#fd);
  }

  /** The first of these units in one piece; undefined if they are not free. */
  #place(size: number): number | undefined {
    const left = this.#area - (this.#tail % this.#area);
    const at = size > left ? this.#tail + left : this.#tail;
    return at + size - this.#freed > this.#area ? undefined : at;
  }

  #write(bytes: NodeJS.ArrayBufferView, length: number, at: number): void {
    for (let done = 0; done < length; ) done += writeSync(this.#fd, bytes, done, length - done, at + done);
  }
}

/** As `mkdirSync` with `recursive`, which never returns where a folder is and takes no other, as in /proc. */
function makeFolder(path: string, parents = true): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    if (code !== "ENOENT" || !parents) throw error;
    makeFolder(dirname(path));
    makeFolder(path, false);
  }
}

function prepare(folder: string): void {
  makeFolder(folder);
  const { uid, mode } = statSync(folder);
  // Others could put files of theirs into it, which this process would deliver as its own.
  if (uid !== process.geteuid?.() || mode & 0o002) throw new Error("the folder belongs to another user, or everybody may write to it. hint: name a folder within it, which the recorder makes");
}

function create(folder: string): [number, string] {
  for (;;) {
    const path = join(folder, `${randomHex(16)}.spool`);
    const fd = openSync(path, "wx+", 0o600);
    const { error, status } = spawnSync("flock", LOCK, { stdio: ["ignore", "ignore", "ignore", fd] });
    if (!error && status === 0 && fstatSync(fd).nlink > 0) return [fd, path];
    closeSync(fd);
    if (error || status !== 1) {
      unlinkSync(path);
      throw new Error(`the program flock cannot lock ${path}: ${error?.message ?? `status ${String(status)}`}`);
    }
    // Another process looked for left-over files just now, and removes this one, because it is empty.
  }
}

/** Locks the file, if nobody else has. Resolves to whether it did. */
function locked(fd: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const program = spawn("flock", LOCK, { stdio: ["ignore", "ignore", "ignore", fd] });
    program.on("error", reject).on("exit", (status) => resolve(status === 0 && fstatSync(fd).nlink > 0));
  });
}

/** Takes the file over, if its process has ended. Resolves to undefined if that lives, and if the file is gone or was empty. */
async function adopt(path: string): Promise<Orphan | undefined> {
  let fd: number;
  try {
    fd = openSync(path, "r+");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  let isOurs = false;
  try {
    if (!(await locked(fd))) return undefined;
    const file = readFileSync(fd);
    if (file.length === 0) return unlinkSync(path), undefined;
    const { head, entries } = readSpool(file);
    isOurs = true;
    return { ...head, entries, remove: () => unlinkSync(path), release: () => closeSync(fd) };
  } catch (error) {
    throw new Error(`${path} is left as it is: ${(error as Error).message}`);
  } finally {
    if (!isOurs) closeSync(fd);
  }
}

export const spools: Spools = {
  prepare,
  create: (folder, bytes, producer, secret) => new FileSpool(folder, bytes, producer, secret),
  files: (folder) => readdirSync(folder).filter((name) => name.endsWith(".spool")).map((name) => join(folder, name)),
  adopt,
};
