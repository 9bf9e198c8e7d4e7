/** Netlink attributes (`linux/netlink.h`, `struct nlattr`): type-length-value, in steps of 4. */
import { type Family, IpAddress } from "../net/ip.ts";
import { MAC_BYTES, MacAddress } from "../net/mac_address.ts";
import { NetlinkDecodeError } from "./error.ts";
import { align, readU16, readU32, readU32be, writeU16, writeU32 } from "./layout.ts";

// struct nlattr
const NLA_LEN_OFFSET = 0;
const NLA_TYPE_OFFSET = 2;
/** `NLA_HDRLEN` */
export const NLA_HDRLEN = NLA_TYPE_OFFSET + 2;

/** `NLA_F_NESTED`: the value is attributes itself. */
export const NLA_F_NESTED = 0x8000;
/** `NLA_TYPE_MASK`: the type without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`. */
const NLA_TYPE_MASK = 0x3fff;

/** Of links, addresses and routes; the longest, a veth pair, takes under 250 bytes. */
const PAYLOAD_BYTES_MAX = 512;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The buffer of writers that bring none; null while one holds it, and the next makes another. */
let spare: Uint8Array | null = null;

/** Writes a message's payload: its family header, then attributes. Every byte passed is written. */
export class PayloadWriter {
  #bytes: Uint8Array;
  #isSpare: boolean;
  #size_bytes = 0;

  /**
   * Writes into `buffer`, which stays the caller's, or into one of its own. Writing past its end
   * throws `RangeError`.
   */
  constructor(buffer?: Uint8Array) {
    this.#isSpare = buffer === undefined;
    this.#bytes = buffer ?? spare ?? new Uint8Array(PAYLOAD_BYTES_MAX);
    if (this.#isSpare) spare = null;
  }

  u8(value: number): this {
    this.#bytes[this.#take(1)] = value;
    return this;
  }

  u16(value: number): this {
    writeU16(this.#bytes, this.#take(2), value);
    return this;
  }

  u32(value: number): this {
    writeU32(this.#bytes, this.#take(4), value);
    return this;
  }

  /** Network byte order, as nftables has all its numbers. */
  u16be(value: number): this {
    return this.u8(value >>> 8).u8(value);
  }

  attribute(type: number, value: Uint8Array): this {
    this.u16(NLA_HDRLEN + value.length).u16(type);
    this.#bytes.set(value, this.#take(value.length));
    return this.#pad();
  }

  /** `NLA_FLAG`: that it is there is all it says. */
  attributeFlag(type: number): this {
    return this.u16(NLA_HDRLEN).u16(type);
  }

  attributeU8(type: number, value: number): this {
    return this.u16(NLA_HDRLEN + 1).u16(type).u8(value).#pad();
  }

  /** Network byte order, as ports are. */
  attributeU16be(type: number, value: number): this {
    return this.u16(NLA_HDRLEN + 2).u16(type).u8(value >>> 8).u8(value).#pad();
  }

  attributeU32(type: number, value: number): this {
    return this.u16(NLA_HDRLEN + 4).u16(type).u32(value);
  }

  /** Network byte order; a negative value as its two's complement. */
  attributeU32be(type: number, value: number): this {
    return this.u16(NLA_HDRLEN + 4).u16(type).u16be(value >>> 16).u16be(value);
  }

  /** `NLA_NUL_STRING`: with its NUL. */
  attributeText(type: number, text: string): this {
    return this.attribute(type, encoder.encode(`${text}\0`));
  }

  /** Network byte order. */
  attributeAddress(type: number, address: IpAddress): this {
    const size_bytes = address.family === 4 ? 4 : 16;
    this.u16(NLA_HDRLEN + size_bytes).u16(type);
    address.writeTo(this.#bytes, this.#take(size_bytes));
    return this;
  }

  attributeMac(type: number, address: MacAddress): this {
    this.u16(NLA_HDRLEN + MAC_BYTES).u16(type);
    address.writeTo(this.#bytes, this.#take(MAC_BYTES));
    return this.#pad();
  }

  /** An attribute whose value is what `fill` writes. */
  nested(type: number, fill: () => void): this {
    const start = this.#size_bytes;
    this.u16(0).u16(type);
    fill();
    writeU16(this.#bytes, start + NLA_LEN_OFFSET, this.#size_bytes - start);
    return this.#pad();
  }

  /**
   * What was written: a view into the buffer that the caller brought, else the caller's own; then
   * nothing more can be written.
   */
  finish(): Uint8Array {
    if (!this.#isSpare) return this.#bytes.subarray(0, this.#size_bytes);
    const payload = this.#bytes.slice(0, this.#size_bytes);
    spare = this.#bytes;
    this.#bytes = payload;
    this.#isSpare = false;
    return payload;
  }

  /** The place of the next bytes. */
  #take(size_bytes: number): number {
    const offset = this.#size_bytes;
    if (offset + size_bytes > this.#bytes.length) {
      throw new RangeError(`a payload of more than ${this.#bytes.length} bytes`);
    }
    this.#size_bytes += size_bytes;
    return offset;
  }

  #pad(): this {
    while ((this.#size_bytes & 3) !== 0) this.u8(0);
    return this;
  }
}

function typeAt(bytes: Uint8Array, offset: number): number {
  return readU16(bytes, offset + NLA_TYPE_OFFSET) & NLA_TYPE_MASK;
}

/** The length of the attribute at `offset`, its header included, which was found to fit. */
function checkedSize_bytes(bytes: Uint8Array, offset: number, what: string): number {
  const rest = bytes.length - offset;
  if (rest < NLA_HDRLEN) {
    throw new NetlinkDecodeError(what, `${rest} bytes where an attribute should be`);
  }
  const size_bytes = readU16(bytes, offset + NLA_LEN_OFFSET);
  if (size_bytes >= NLA_HDRLEN && size_bytes <= rest) return size_bytes;
  throw new NetlinkDecodeError(
    what,
    `attribute ${typeAt(bytes, offset)} has a length of ${size_bytes} in ${rest} bytes`,
  );
}

/** One attribute. */
export interface Attribute {
  /** Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`. */
  readonly type: number;
  /** A view into the message. */
  readonly value: Uint8Array;
}

/**
 * Reads attributes to the end of `bytes`, in their order; the values are views into it. `what`
 * names them in errors. Throws `NetlinkDecodeError` if a length does not fit.
 */
export function parseAttributes(bytes: Uint8Array, what: string): Attribute[] {
  const attributes: Attribute[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const size_bytes = checkedSize_bytes(bytes, offset, what);
    const value = bytes.subarray(offset + NLA_HDRLEN, offset + size_bytes);
    attributes.push({ type: typeAt(bytes, offset), value });
    offset += align(size_bytes);
  }
  return attributes;
}

/**
 * The attributes of one message or one nested attribute; of several with one type the last counts,
 * as in the kernel. Lengths were checked by `parse`; a value whose size does not fit what it is
 * read as throws `NetlinkDecodeError`. What is absent reads as undefined.
 *
 * Each look-up goes through the bytes: for the few attributes that a route or a neighbour has,
 * that takes a fraction of what filling a map would.
 */
export class Attributes {
  private constructor(
    readonly what: string,
    private readonly source: Uint8Array,
    private readonly start: number,
  ) {}

  /** Reads attributes from `start` to the end of `bytes`, borrowed; `what` names them in errors. */
  static parse(bytes: Uint8Array, what: string, start = 0): Attributes {
    for (let offset = start; offset < bytes.length;) {
      offset += align(checkedSize_bytes(bytes, offset, what));
    }
    return new Attributes(what, bytes, start);
  }

  /** Whether there is one of this type, whatever its value: what a flag says. */
  has(type: number): boolean {
    return this.#find(type) >= 0;
  }

  /** The value as it is, borrowed. */
  bytes(type: number): Uint8Array | undefined {
    const offset = this.#find(type);
    if (offset < 0) return undefined;
    return this.source.subarray(offset, offset + this.#size_bytes(offset));
  }

  u8(type: number): number | undefined {
    const offset = this.#sized(type, 1);
    return offset < 0 ? undefined : this.source[offset];
  }

  /** Network byte order, as ports are. */
  u16be(type: number): number | undefined {
    const offset = this.#sized(type, 2);
    return offset < 0 ? undefined : (this.source[offset]! << 8) | this.source[offset + 1]!;
  }

  u32(type: number): number | undefined {
    const offset = this.#sized(type, 4);
    return offset < 0 ? undefined : readU32(this.source, offset);
  }

  /** Of network byte order. */
  u32be(type: number): number | undefined {
    const offset = this.#sized(type, 4);
    return offset < 0 ? undefined : readU32be(this.source, offset);
  }

  /** Of network byte order. */
  u64be(type: number): bigint | undefined {
    const offset = this.#sized(type, 8);
    if (offset < 0) return undefined;
    const high = readU32be(this.source, offset);
    return (BigInt(high) << 32n) | BigInt(readU32be(this.source, offset + 4));
  }

  /** Text up to its NUL. */
  text(type: number): string | undefined {
    const value = this.bytes(type);
    if (value === undefined) return undefined;
    const end = value.indexOf(0);
    return decoder.decode(end < 0 ? value : value.subarray(0, end));
  }

  /** `family`: which it must be, where that is known. */
  address(type: number, family?: Family): IpAddress | undefined {
    const offset = this.#find(type);
    if (offset < 0) return undefined;
    const size_bytes = this.#size_bytes(offset);
    const found = size_bytes === 4 ? 4 : size_bytes === 16 ? 6 : null;
    if (found === null || found !== (family ?? found)) {
      throw new NetlinkDecodeError(
        this.what,
        `attribute ${type}: an IPv${family ?? "4 or IPv6"} address of ${size_bytes} bytes`,
      );
    }
    return IpAddress.readFrom(this.source, offset, found);
  }

  /** An Ethernet address; undefined also where the link has addresses of another size. */
  mac(type: number): MacAddress | undefined {
    const offset = this.#find(type);
    if (offset < 0 || this.#size_bytes(offset) !== MAC_BYTES) return undefined;
    return MacAddress.readFrom(this.source, offset);
  }

  nested(type: number): Attributes | undefined {
    const value = this.bytes(type);
    return value && Attributes.parse(value, `${this.what}, attribute ${type}`);
  }

  /** Where the value is, or -1. */
  #find(type: number): number {
    const { source } = this;
    let found = -1;
    for (let offset = this.start; offset < source.length;) {
      const isIt = (readU16(source, offset + NLA_TYPE_OFFSET) & NLA_TYPE_MASK) === type;
      if (isIt) found = offset + NLA_HDRLEN;
      offset += align(readU16(source, offset + NLA_LEN_OFFSET));
    }
    return found;
  }

  /** The size of the value that is at `offset`. */
  #size_bytes(offset: number): number {
    return readU16(this.source, offset - NLA_HDRLEN + NLA_LEN_OFFSET) - NLA_HDRLEN;
  }

  #sized(type: number, size_bytes: number): number {
    const offset = this.#find(type);
    if (offset >= 0 && this.#size_bytes(offset) !== size_bytes) {
      throw new NetlinkDecodeError(
        this.what,
        `attribute ${type} has ${this.#size_bytes(offset)} bytes in place of ${size_bytes}`,
      );
    }
    return offset;
  }
}
