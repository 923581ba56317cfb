// The bytes of a spool file, as §13 of the protocol's specification has them.

/** Bytes of the head, before the entries. */
export const HEAD_BYTES = 4096;
/** Entries begin at multiples of this, counted from the end of the head. */
export const UNIT = 64;
/** Bytes of an entry before its record. */
export const ENTRY_BYTES = 16;
/** Where the head has the highest settled number. */
export const SETTLED_AT = 512;

const MAGIC = "tallydsp";
const VERSION = 1;
/** The part of the head that its checksum covers. */
const [CHECKED_FROM, CHECKED_TO] = [16, 320];
const [PRODUCER_AT, SECRET_AT, TEXT_BYTES] = [64, 192, 128];

/** A file's constant properties. `salt` begins each entry's checksum: random bytes, so that a record's text cannot pass for an entry. */
export interface Head { producer: string; secret: string; salt: Uint8Array; area: number }

/** A record that is not settled, in its array form. */
export interface Entry { seq: number; record: Uint8Array }

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb8_8320 : sum >>> 1;
  return sum;
});

/** CRC-32 of the bytes from `from` to `to`, after the bytes whose sum is `before`. */
export function crc32(bytes: Uint8Array, before = 0, from = 0, to = bytes.length): number {
  let sum = ~before;
  for (let at = from; at < to; at += 1) sum = TABLE[(sum ^ bytes[at]!) & 0xff]! ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** The units that an entry takes. */
export const units = (recordBytes: number): number => Math.ceil((ENTRY_BYTES + recordBytes) / UNIT);

/** Writes a number of 64 bits, little-endian. */
export function writeSeq(into: DataView, at: number, seq: number): void {
  into.setUint32(at, seq % 2 ** 32, true);
  into.setUint32(at + 4, Math.floor(seq / 2 ** 32), true);
}

const readSeq = (from: DataView, at: number): number => from.getUint32(at + 4, true) * 2 ** 32 + from.getUint32(at, true);

export function headBytes({ producer, secret, salt, area }: Head): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES);
  const view = new DataView(bytes.buffer);
  const text = new TextEncoder();
  text.encodeInto(MAGIC, bytes);
  view.setUint32(8, VERSION, true);
  writeSeq(view, 16, area);
  bytes.set(salt, 24);
  text.encodeInto(producer, bytes.subarray(PRODUCER_AT, SECRET_AT));
  text.encodeInto(secret, bytes.subarray(SECRET_AT, CHECKED_TO));
  view.setUint32(12, crc32(bytes, 0, CHECKED_FROM, CHECKED_TO), true);
  return bytes;
}

/**
 * Writes an entry to the start of `into`. Returns its length. `salted` is the sum of the head's salt. The checksum is of the salt, the record, and
 * the number.
 */
export function writeEntry(into: Uint8Array, salted: number, seq: number, record: Uint8Array): number {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  writeSeq(view, 0, seq);
  view.setUint32(8, record.length, true);
  into.set(record, ENTRY_BYTES);
  view.setUint32(12, crc32(into, crc32(record, salted), 0, 8), true);
  return ENTRY_BYTES + record.length;
}

/**
 * The head, and the entries that are not settled, by rising number. Skips bytes that are not a whole entry: those of a record whose `record()` had
 * not returned when the process was killed, and those of settled entries. Throws an Error that says why the file is not a spool of this version.
 */
export function readSpool(file: Uint8Array): { head: Head; entries: Entry[] } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < HEAD_BYTES || new TextDecoder("latin1").decode(file.subarray(0, 8)) !== MAGIC) throw new Error("it is not a spool file");
  if (view.getUint32(8, true) !== VERSION) throw new Error("it is of another version");
  if (view.getUint32(12, true) !== crc32(file, 0, CHECKED_FROM, CHECKED_TO)) throw new Error("its head is damaged");
  const text = (at: number): string => new TextDecoder().decode(file.subarray(at, at + TEXT_BYTES)).split("\0")[0]!;
  const head = { producer: text(PRODUCER_AT), secret: text(SECRET_AT), salt: file.slice(24, 32), area: readSeq(view, 16) };
  const [salted, settled, end] = [crc32(head.salt), readSeq(view, SETTLED_AT), Math.min(file.length, HEAD_BYTES + head.area)];
  const entries: Entry[] = [];
  for (let at = HEAD_BYTES; at + ENTRY_BYTES <= end; ) {
    const [seq, from] = [readSeq(view, at), at + ENTRY_BYTES];
    const to = from + view.getUint32(at + 8, true);
    const may = seq > settled && Number.isSafeInteger(seq) && to > from && to <= end;
    if (may && view.getUint32(at + 12, true) === crc32(file, crc32(file, salted, from, to), at, at + 8)) {
      entries.push({ seq, record: file.subarray(from, to) });
      at += units(to - from) * UNIT;
    } else at += UNIT;
  }
  return { head, entries: entries.sort((a, b) => a.seq - b.seq) };
}
