/**
 * IP addresses and prefixes of both families, as one tagged value each.
 *
 * Parsing is strict: IPv4 is four decimal numbers without leading zeros, IPv6 is RFC 4291 text,
 * with no zone. The text written is RFC 5952's.
 */
import { SelvageError } from "../errors.ts";

export type Family = 4 | 6;

/** Number of bits in an address of the family. */
export function bitsOf(family: Family): number {
  return family === 4 ? 32 : 128;
}

function invalid(what: string, text: string, why: string): SelvageError {
  return new SelvageError("invalid_argument", `${what} ${JSON.stringify(text)}: ${why}`);
}

const CODE_0 = "0".charCodeAt(0);

/** The bits of a dotted quad, or null if it is none. */
function parseV4(text: string): number | null {
  // Without substrings: a list of thousands of leases is read at once.
  let value = 0;
  let part = -1;
  let dotCount = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - CODE_0;
    if (digit >= 0 && digit <= 9) {
      // Another digit after a zero: that would be octal to some.
      if (part === 0) return null;
      part = part < 0 ? digit : part * 10 + digit;
      if (part > 255) return null;
    } else {
      if (text[i] !== "." || part < 0) return null;
      value = value * 256 + part;
      part = -1;
      dotCount++;
    }
  }
  return dotCount === 3 && part >= 0 ? value * 256 + part : null;
}

function parseGroups(text: string): number[] | null {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes(".")) {
      const tail = parseV4(part);
      if (tail === null) return null;
      groups.push(tail >>> 16, tail & 0xffff);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(parseInt(part, 16));
    } else {
      return null;
    }
  }
  return groups;
}

/** The bits of an IPv6 text (RFC 4291 section 2.2), or null if it is none. */
function parseV6(text: string): bigint | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0]!);
  const tail = halves.length === 2 ? parseGroups(halves[1]!) : [];
  if (head === null || tail === null) return null;
  // An embedded IPv4 tail belongs to the end of the whole text alone.
  if (halves.length === 2 && halves[0]!.includes(".")) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n);
}

function formatV6(value: bigint): string {
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) {
    groups.push(Number((value >> shift) & 0xffffn));
  }
  // RFC 5952 section 4.2: the longest run of at least two zero groups, the first of equals.
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.start < 0) return hex.join(":");
  const head = hex.slice(0, best.start).join(":");
  return `${head}::${hex.slice(best.start + best.length).join(":")}`;
}

/** The 32 bits at `offset`, in network order. */
function readUint32(bytes: Uint8Array, offset: number): number {
  const low = (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
  return ((bytes[offset]! << 24) | low) >>> 0;
}

function writeUint32(bytes: Uint8Array, offset: number, bits: number): void {
  bytes[offset] = bits >>> 24;
  bytes[offset + 1] = bits >>> 16;
  bytes[offset + 2] = bits >>> 8;
  bytes[offset + 3] = bits;
}

/** One address. Immutable; equal addresses have equal texts. */
export class IpAddress {
  private constructor(
    readonly family: Family,
    /** As `value`; of IPv4 a number, which takes no memory beside the object. */
    private readonly bits: number | bigint,
  ) {}

  static #from(family: Family, value: bigint): IpAddress {
    return new IpAddress(family, family === 4 ? Number(value) : value);
  }

  /** The address as an unsigned number, most significant bit first. */
  get value(): bigint {
    return BigInt(this.bits);
  }

  /** An address from its number; throws if it does not fit the family. */
  static of(family: Family, value: bigint): IpAddress {
    if (value < 0n || value >> BigInt(bitsOf(family)) !== 0n) {
      throw new SelvageError("internal", `${value} is no IPv${family} address`);
    }
    return IpAddress.#from(family, value);
  }

  /** An IPv4 address from its 32 bits, signed or not. */
  static ofUint32(bits: number): IpAddress {
    return new IpAddress(4, bits >>> 0);
  }

  /** The address that the text is, or null if it is none. */
  static tryParse(text: string): IpAddress | null {
    const v4 = parseV4(text);
    if (v4 !== null) return new IpAddress(4, v4);
    const v6 = text.includes(":") ? parseV6(text) : null;
    return v6 === null ? null : new IpAddress(6, v6);
  }

  /** Parses one address; `what` names its place in the error. */
  static parse(text: string, what = "address"): IpAddress {
    const address = IpAddress.tryParse(text);
    if (address === null) throw invalid(what, text, "not an IPv4 or IPv6 address");
    return address;
  }

  /** An address from 4 or 16 bytes in network order. The bytes are copied. */
  static fromBytes(bytes: Uint8Array): IpAddress {
    if (bytes.length !== 4 && bytes.length !== 16) {
      throw new SelvageError("invalid_argument", `an address of ${bytes.length} bytes`);
    }
    return IpAddress.readFrom(bytes, 0, bytes.length === 4 ? 4 : 6);
  }

  /** The address at `offset` in network order; the caller has checked that it is all there. */
  static readFrom(bytes: Uint8Array, offset: number, family: Family): IpAddress {
    const high = readUint32(bytes, offset);
    if (family === 4) return new IpAddress(4, high);
    const upper = (BigInt(high) << 32n) | BigInt(readUint32(bytes, offset + 4));
    const lower = (BigInt(readUint32(bytes, offset + 8)) << 32n) |
      BigInt(readUint32(bytes, offset + 12));
    return new IpAddress(6, (upper << 64n) | lower);
  }

  /** 4 or 16 bytes in network order, owned by the caller. */
  toBytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(bitsOf(this.family) / 8);
    this.writeTo(bytes, 0);
    return bytes;
  }

  /** Writes 4 or 16 bytes in network order, for which there must be room at `offset`. */
  writeTo(bytes: Uint8Array, offset: number): void {
    if (typeof this.bits === "number") return writeUint32(bytes, offset, this.bits);
    for (let shift = 96n, at = offset; shift >= 0n; shift -= 32n, at += 4) {
      writeUint32(bytes, at, Number((this.bits >> shift) & 0xffffffffn));
    }
  }

  /** An IPv4 address as an unsigned 32-bit number in host order. */
  toUint32(): number {
    if (this.family !== 4) throw new SelvageError("internal", `${this} is not IPv4`);
    return Number(this.bits);
  }

  /** The address `steps` further on; throws past the end of the family. */
  add(steps: bigint): IpAddress {
    return IpAddress.of(this.family, this.value + steps);
  }

  /** The address with all but its first `length` bits cleared; `length` fits the family. */
  masked(length: number): IpAddress {
    // A shift by 32 would be one by 0.
    if (this.family === 4) {
      return IpAddress.ofUint32(length === 0 ? 0 : Number(this.bits) & (-1 << (32 - length)));
    }
    const host = BigInt(128 - length);
    return IpAddress.#from(6, (this.value >> host) << host);
  }

  /** Whether the first `length` bits of both are the same; `length` fits the family. */
  sharesPrefix(other: IpAddress, length: number): boolean {
    if (this.family !== other.family) return false;
    if (typeof this.bits === "number" && typeof other.bits === "number") {
      return length === 0 || (this.bits ^ other.bits) >>> (32 - length) === 0;
    }
    return (this.value ^ other.value) >> BigInt(128 - length) === 0n;
  }

  equals(other: IpAddress): boolean {
    return this.family === other.family && this.bits === other.bits;
  }

  /** Orders by family, then by number. */
  compare(other: IpAddress): number {
    if (this.family !== other.family) return this.family - other.family;
    return this.bits < other.bits ? -1 : this.bits > other.bits ? 1 : 0;
  }

  /** Whether the first `length` bits, 1 at least, are these. */
  #startsWith(first: number, length: number): boolean {
    if (typeof this.bits === "number") return this.bits >>> (32 - length) === first;
    return this.bits >> BigInt(128 - length) === BigInt(first);
  }

  isLoopback(): boolean {
    return this.family === 4 ? this.#startsWith(127, 8) : this.bits === 1n;
  }

  isUnspecified(): boolean {
    return this.family === 4 ? this.bits === 0 : this.bits === 0n;
  }

  /** RFC 3927 (169.254/16) or RFC 4291 section 2.5.6 (fe80::/10). */
  isLinkLocal(): boolean {
    return this.family === 4 ? this.#startsWith(0xa9fe, 16) : this.#startsWith(0x3fa, 10);
  }

  isMulticast(): boolean {
    return this.family === 4 ? this.#startsWith(0xe, 4) : this.#startsWith(0xff, 8);
  }

  /** Whether it can be one host's on a network: not loopback, multicast, broadcast or "any". */
  isHost(): boolean {
    const isReserved = this.family === 4 &&
      (this.#startsWith(0xf, 4) || this.#startsWith(0, 8));
    return !isReserved && !this.isUnspecified() && !this.isLoopback() && !this.isMulticast();
  }

  toString(): string {
    if (this.family === 6) return formatV6(this.value);
    const bits = Number(this.bits);
    return `${bits >>> 24}.${(bits >>> 16) & 0xff}.${(bits >>> 8) & 0xff}.${bits & 0xff}`;
  }

  toJSON(): string {
    return this.toString();
  }
}

/** A network prefix. Its address always has zero host bits. Immutable. */
export class IpPrefix {
  private constructor(
    /** The lowest address. */
    readonly address: IpAddress,
    /** Number of leading bits that are fixed. */
    readonly length: number,
  ) {}

  /** The prefix of `length` that holds `address`; host bits are cleared. */
  static of(address: IpAddress, length: number): IpPrefix {
    const bits = bitsOf(address.family);
    if (!Number.isInteger(length) || length < 0 || length > bits) {
      throw new SelvageError("invalid_argument", `prefix length ${length}: must be 0 to ${bits}`);
    }
    return new IpPrefix(address.masked(length), length);
  }

  /**
   * Parses `ADDRESS/LENGTH`; host bits are cleared, as flannel's parser does. `what` names its
   * place in the error.
   */
  static parse(text: string, what = "prefix"): IpPrefix {
    const slash = text.indexOf("/");
    const length = text.slice(slash + 1);
    if (slash < 1 || !/^(0|[1-9][0-9]{0,2})$/.test(length)) {
      throw invalid(what, text, "not ADDRESS/LENGTH, such as 10.5.0.0/16");
    }
    const address = IpAddress.tryParse(text.slice(0, slash));
    if (address === null) throw invalid(what, text, "not an IPv4 or IPv6 address");
    if (Number(length) > bitsOf(address.family)) {
      throw invalid(what, text, `a length of at most ${bitsOf(address.family)} is possible`);
    }
    return IpPrefix.of(address, Number(length));
  }

  get family(): Family {
    return this.address.family;
  }

  /** How many addresses it holds. */
  get size(): bigint {
    return 1n << BigInt(bitsOf(this.family) - this.length);
  }

  /** The highest address. */
  get last(): IpAddress {
    return this.address.add(this.size - 1n);
  }

  contains(address: IpAddress): boolean {
    return this.address.sharesPrefix(address, this.length);
  }

  containsPrefix(other: IpPrefix): boolean {
    return other.length >= this.length && this.contains(other.address);
  }

  overlaps(other: IpPrefix): boolean {
    return this.containsPrefix(other) || other.containsPrefix(this);
  }

  equals(other: IpPrefix): boolean {
    return this.length === other.length && this.address.equals(other.address);
  }

  compare(other: IpPrefix): number {
    return this.address.compare(other.address) || this.length - other.length;
  }

  toString(): string {
    return `${this.address}/${this.length}`;
  }

  toJSON(): string {
    return this.toString();
  }
}

/** The one entry of the family in a list that holds at most one of each, or undefined. */
export function ofFamily<T extends { readonly family: Family }>(
  list: readonly T[],
  family: Family,
): T | undefined {
  return list.find((item) => item.family === family);
}
