// UUIDs of version 7, which sort by the time of the call.

const POOL = new Uint8Array(10 * 256);
let used = POOL.length;

/** Writes a UUID for a call at `ms` milliseconds since 1970 into 16 bytes. */
export function v7Into(ms: number, into: Uint8Array, at: number): void {
  if (used === POOL.length) {
    crypto.getRandomValues(POOL);
    used = 0;
  }
  const high = Math.floor(ms / 2 ** 32);
  into[at] = high >>> 8;
  into[at + 1] = high;
  into[at + 2] = ms >>> 24;
  into[at + 3] = ms >>> 16;
  into[at + 4] = ms >>> 8;
  into[at + 5] = ms;
  for (let index = 6; index < 16; index += 1) into[at + index] = POOL[used++]!;
  into[at + 6] = (into[at + 6]! & 0x0f) | 0x70;
  into[at + 8] = (into[at + 8]! & 0x3f) | 0x80;
}

/** An id that the client made; the application did not state one. */
export class MadeId extends Uint8Array {}

/** A UUID for a call at `ms` milliseconds since 1970. */
export function v7(ms: number): MadeId {
  const bytes = new MadeId(16);
  v7Into(ms, bytes, 0);
  return bytes;
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** `bytes` random bytes as hexadecimal digits. */
export function randomHex(bytes: number): string {
  return toHex(crypto.getRandomValues(new Uint8Array(bytes)));
}

export function format(bytes: Uint8Array): string {
  const hex = toHex(bytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
