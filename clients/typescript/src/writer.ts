// Writes MessagePack into one reused buffer: only the types of the protocol, each in its shortest form.
//
// A record is a dozen small values. Writing them here costs less than building the objects that a general encoder needs. The shared
// vectors check the bytes.

let bytes: Buffer;
let at = 0;

function room(more: number): void {
  if (at + more <= bytes.length) return;
  const larger = Buffer.allocUnsafe(Math.max(at + more, bytes.length * 2));
  bytes.copy(larger, 0, 0, at);
  bytes = larger;
}

/** Starts an empty value. Bytes that were not taken are lost. */
export function begin(): void {
  // A buffer that one huge record has enlarged is replaced.
  if (!bytes || bytes.length > 1024 * 1024) bytes = Buffer.allocUnsafe(16 * 1024);
  at = 0;
}

/** A copy of the bytes since `begin`. */
export function taken(): Uint8Array {
  const own = new Uint8Array(at);
  own.set(bytes.subarray(0, at));
  return own;
}

export function writeNil(): void {
  room(1);
  bytes[at++] = 0xc0;
}

/** Appends bytes as they are. */
export function writeRaw(raw: Uint8Array): void {
  room(raw.length);
  bytes.set(raw, at);
  at += raw.length;
}

/** A binary value of 16 bytes, which `fill` writes. */
export function writeBin16(fill: (into: Uint8Array, from: number) => void): void {
  room(18);
  bytes[at++] = 0xc4;
  bytes[at++] = 16;
  fill(bytes, at);
  at += 16;
}

/** An id made by the client: 1, then its 16 bytes. The daemon does not look it up, because the sequence number prevents a second count. */
export function writeMadeId(fill: (into: Uint8Array, from: number) => void): void {
  room(19);
  bytes[at++] = 0xc4;
  bytes[at++] = 17;
  bytes[at++] = 1;
  fill(bytes, at);
  at += 16;
}

export function writeArrayHead(length: number): void {
  room(5);
  if (length < 16) bytes[at++] = 0x90 | length;
  else if (length < 65_536) {
    bytes[at] = 0xdc;
    at = bytes.writeUInt16BE(length, at + 1);
  } else {
    bytes[at] = 0xdd;
    at = bytes.writeUInt32BE(length, at + 1);
  }
}

export function writeMapHead(length: number): void {
  room(5);
  if (length < 16) bytes[at++] = 0x80 | length;
  else if (length < 65_536) {
    bytes[at] = 0xde;
    at = bytes.writeUInt16BE(length, at + 1);
  } else {
    bytes[at] = 0xdf;
    at = bytes.writeUInt32BE(length, at + 1);
  }
}

/** `value` must be a safe integer. */
export function writeInteger(value: number): void {
  room(9);
  if (value >= 0) {
    if (value < 128) bytes[at++] = value;
    else if (value < 256) {
      bytes[at++] = 0xcc;
      bytes[at++] = value;
    } else if (value < 65_536) {
      bytes[at] = 0xcd;
      at = bytes.writeUInt16BE(value, at + 1);
    } else if (value <= 0xffff_ffff) {
      bytes[at] = 0xce;
      at = bytes.writeUInt32BE(value, at + 1);
    } else {
      bytes[at] = 0xcf;
      at = bytes.writeUInt32BE(Math.floor(value / 2 ** 32), at + 1);
      at = bytes.writeUInt32BE(value % 2 ** 32, at);
    }
  } else if (value >= -32) bytes[at++] = value & 0xff;
  else if (value >= -128) {
    bytes[at] = 0xd0;
    at = bytes.writeInt8(value, at + 1);
  } else if (value >= -32_768) {
    bytes[at] = 0xd1;
    at = bytes.writeInt16BE(value, at + 1);
  } else if (value >= -(2 ** 31)) {
    bytes[at] = 0xd2;
    at = bytes.writeInt32BE(value, at + 1);
  } else {
    const high = Math.floor(value / 2 ** 32);
    bytes[at] = 0xd3;
    at = bytes.writeInt32BE(high, at + 1);
    at = bytes.writeUInt32BE(value - high * 2 ** 32, at);
  }
}

export function writeText(text: string): void {
  // Names are short and ASCII, for which writing by character is fastest.
  const length = text.length;
  if (length < 32) {
    room(1 + length);
    const head = at;
    let place = at + 1;
    for (let index = 0; index < length; index += 1) {
      const code = text.charCodeAt(index);
      if (code >= 128) return writeLongText(text);
      bytes[place++] = code;
    }
    bytes[head] = 0xa0 | length;
    at = place;
    return;
  }
  writeLongText(text);
}

function writeLongText(text: string): void {
  const length = Buffer.byteLength(text);
  room(5 + length);
  if (length < 32) bytes[at++] = 0xa0 | length;
  else if (length < 256) {
    bytes[at++] = 0xd9;
    bytes[at++] = length;
  } else if (length < 65_536) {
    bytes[at] = 0xda;
    at = bytes.writeUInt16BE(length, at + 1);
  } else {
    bytes[at] = 0xdb;
    at = bytes.writeUInt32BE(length, at + 1);
  }
  bytes.write(text, at);
  at += length;
}
