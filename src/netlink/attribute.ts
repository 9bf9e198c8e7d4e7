/** Netlink attributes (`linux/netlink.h`, `struct nlattr`): type-length-value, in steps of 4. */
import { IpAddress } from "../net/ip.ts";
import { NetlinkDecodeError } from "./error.ts";
import { align, HOST_LITTLE_ENDIAN, viewOf } from "./layout.ts";

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

/** Writes a message's payload: its family header, then attributes. Every byte passed is written. */
export class PayloadWriter {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #size_bytes = 0;

  /** Writes into `buffer`, which stays the caller's. Writing past its end throws `RangeError`. */
  constructor(buffer: Uint8Array = new Uint8Array(PAYLOAD_BYTES_MAX)) {
    this.#bytes = buffer;
    this.#view = viewOf(buffer);
  }

  u8(value: number): this {
    this.#view.setUint8(this.#size_bytes, value);
    this.#size_bytes += 1;
    return this;
  }

  u16(value: number): this {
    this.#view.setUint16(this.#size_bytes, value, HOST_LITTLE_ENDIAN);
    this.#size_bytes += 2;
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#size_bytes, value, HOST_LITTLE_ENDIAN);
    this.#size_bytes += 4;
    return this;
  }

  /** Network byte order, as nftables has all its numbers. */
  u16be(value: number): this {
    this.#view.setUint16(this.#size_bytes, value, false);
    this.#size_bytes += 2;
    return this;
  }

  attribute(type: number, value: Uint8Array): this {
    this.u16(NLA_HDRLEN + value.length).u16(type);
    this.#bytes.set(value, this.#size_bytes);
    this.#size_bytes += value.length;
    return this.#pad();
  }

  attributeU32(type: number, value: number): this {
    return this.u16(NLA_HDRLEN + 4).u16(type).u32(value);
  }

  /** Network byte order; a negative value as its two's complement. */
  attributeU32be(type: number, value: number): this {
    this.u16(NLA_HDRLEN + 4).u16(type);
    this.#view.setUint32(this.#size_bytes, value, false);
    this.#size_bytes += 4;
    return this;
  }

  /** `NLA_NUL_STRING`: with its NUL. */
  attributeText(type: number, text: string): this {
    return this.attribute(type, encoder.encode(`${text}\0`));
  }

  /** Network byte order. */
  attributeAddress(type: number, address: IpAddress): this {
    return this.attribute(type, address.toBytes());
  }

  /** An attribute whose value is what `fill` writes. */
  nested(type: number, fill: () => void): this {
    const start = this.#size_bytes;
    this.u16(0).u16(type);
    fill();
    const size_bytes = this.#size_bytes - start;
    this.#view.setUint16(start + NLA_LEN_OFFSET, size_bytes, HOST_LITTLE_ENDIAN);
    return this.#pad();
  }

  /** What was written so far, as a view into the buffer. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#size_bytes);
  }

  #pad(): this {
    while (this.#size_bytes % 4 !== 0) this.u8(0);
    return this;
  }
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
  const view = viewOf(bytes);
  const attributes: Attribute[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const rest = bytes.length - offset;
    if (rest < NLA_HDRLEN) {
      throw new NetlinkDecodeError(what, `${rest} bytes where an attribute should be`);
    }
    const size_bytes = view.getUint16(offset + NLA_LEN_OFFSET, HOST_LITTLE_ENDIAN);
    const type = view.getUint16(offset + NLA_TYPE_OFFSET, HOST_LITTLE_ENDIAN) & NLA_TYPE_MASK;
    if (size_bytes < NLA_HDRLEN || size_bytes > rest) {
      throw new NetlinkDecodeError(
        what,
        `attribute ${type} has a length of ${size_bytes} in ${rest} bytes`,
      );
    }
    attributes.push({ type, value: bytes.subarray(offset + NLA_HDRLEN, offset + size_bytes) });
    offset += align(size_bytes);
  }
  return attributes;
}

/**
 * The attributes of one message or one nested attribute; of several with one type the last counts,
 * as in the kernel. Lengths were checked by `parse`; a value whose size does not fit what it is
 * read as throws `NetlinkDecodeError`. What is absent reads as undefined.
 */
export class Attributes {
  private constructor(
    readonly what: string,
    private readonly values: ReadonlyMap<number, Uint8Array>,
  ) {}

  /** Reads attributes to the end of `bytes`, which it borrows; `what` names them in errors. */
  static parse(bytes: Uint8Array, what: string): Attributes {
    const values = new Map<number, Uint8Array>();
    for (const { type, value } of parseAttributes(bytes, what)) values.set(type, value);
    return new Attributes(what, values);
  }

  /** The value as it is, borrowed. */
  bytes(type: number): Uint8Array | undefined {
    return this.values.get(type);
  }

  u8(type: number): number | undefined {
    return this.#sized(type, 1)?.getUint8(0);
  }

  u32(type: number): number | undefined {
    return this.#sized(type, 4)?.getUint32(0, HOST_LITTLE_ENDIAN);
  }

  /** Of network byte order. */
  u32be(type: number): number | undefined {
    return this.#sized(type, 4)?.getUint32(0, false);
  }

  /** Text up to its NUL. */
  text(type: number): string | undefined {
    const value = this.values.get(type);
    if (value === undefined) return undefined;
    const end = value.indexOf(0);
    return decoder.decode(end < 0 ? value : value.subarray(0, end));
  }

  address(type: number, family: 4 | 6): IpAddress | undefined {
    const value = this.values.get(type);
    if (value === undefined) return undefined;
    if (value.length !== (family === 4 ? 4 : 16)) {
      throw new NetlinkDecodeError(
        this.what,
        `attribute ${type}: an IPv${family} address of ${value.length} bytes`,
      );
    }
    return IpAddress.fromBytes(value);
  }

  nested(type: number): Attributes | undefined {
    const value = this.values.get(type);
    return value && Attributes.parse(value, `${this.what}, attribute ${type}`);
  }

  #sized(type: number, size_bytes: number): DataView | undefined {
    const value = this.values.get(type);
    if (value === undefined) return undefined;
    if (value.length !== size_bytes) {
      throw new NetlinkDecodeError(
        this.what,
        `attribute ${type} has ${value.length} bytes in place of ${size_bytes}`,
      );
    }
    return viewOf(value);
  }
}
