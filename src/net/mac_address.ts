/** Ethernet addresses of six bytes (IEEE 802, EUI-48). */
import { randomBytes } from "node:crypto";
import { SelvageError } from "../errors.ts";

/** `ETH_ALEN` */
export const MAC_BYTES = 6;
/** The bits of the first byte (IEEE 802-2014 section 8.2.2). */
const GROUP_BIT = 0x01;
const LOCAL_BIT = 0x02;

/** What Go's `net.ParseMAC` takes of six bytes; the separator is the same throughout. */
const FORMS = [
  /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i,
  /^[0-9a-f]{2}(?:-[0-9a-f]{2}){5}$/i,
  /^[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}$/i,
];

/** A byte as two digits. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** One address. Immutable; equal addresses have equal texts. */
export class MacAddress {
  private constructor(
    /** The six bytes as one number, the first byte highest: 48 bits, which a number holds. */
    private readonly bits: number,
  ) {}

  /** The address that the text is, or null if it is none. */
  static tryParse(text: string): MacAddress | null {
    if (!FORMS.some((form) => form.test(text))) return null;
    return new MacAddress(parseInt(text.replaceAll(/[:.-]/g, ""), 16));
  }

  /**
   * Reads `aa:bb:cc:dd:ee:ff`, `aa-bb-cc-dd-ee-ff` or `aabb.ccdd.eeff`. `what` names its place in
   * the error. Throws `invalid_argument`.
   */
  static parse(text: string, what = "MAC address"): MacAddress {
    const address = MacAddress.tryParse(text);
    if (address !== null) return address;
    throw new SelvageError("invalid_argument", `${what} ${JSON.stringify(text)}: not six bytes`);
  }

  /** An address from its six bytes, which are copied. Throws `invalid_argument` for any other. */
  static fromBytes(bytes: Uint8Array): MacAddress {
    if (bytes.length !== MAC_BYTES) {
      throw new SelvageError("invalid_argument", `a MAC address of ${bytes.length} bytes`);
    }
    return MacAddress.readFrom(bytes, 0);
  }

  /** The address at `offset`; the caller has checked that it is all there. */
  static readFrom(bytes: Uint8Array, offset: number): MacAddress {
    let bits = 0;
    for (let i = 0; i < MAC_BYTES; i++) bits = bits * 256 + bytes[offset + i]!;
    return new MacAddress(bits);
  }

  /** A locally administered address of one station, else random, as flannel makes them. */
  static random(): MacAddress {
    const bytes = randomBytes(MAC_BYTES);
    bytes[0] = (bytes[0]! & ~GROUP_BIT) | LOCAL_BIT;
    return MacAddress.fromBytes(bytes);
  }

  /** Six bytes, owned by the caller. */
  toBytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(MAC_BYTES);
    this.writeTo(bytes, 0);
    return bytes;
  }

  /** Writes the six bytes, for which there must be room at `offset`. */
  writeTo(bytes: Uint8Array, offset: number): void {
    const high = Math.floor(this.bits / 2 ** 32);
    bytes[offset] = high >>> 8;
    bytes[offset + 1] = high;
    bytes[offset + 2] = this.bits >>> 24;
    bytes[offset + 3] = this.bits >>> 16;
    bytes[offset + 4] = this.bits >>> 8;
    bytes[offset + 5] = this.bits;
  }

  /** Whether it can be one station's: of no group, and not all zeros. */
  isUnicast(): boolean {
    const first = Math.floor(this.bits / 2 ** 40);
    return (first & GROUP_BIT) === 0 && this.bits !== 0;
  }

  equals(other: MacAddress): boolean {
    return this.bits === other.bits;
  }

  /** `aa:bb:cc:dd:ee:ff`, in lower case. */
  toString(): string {
    const high = Math.floor(this.bits / 2 ** 32);
    const low = this.bits >>> 0;
    return `${HEX[high >>> 8]}:${HEX[high & 0xff]}:${HEX[low >>> 24]}:` +
      `${HEX[(low >>> 16) & 0xff]}:${HEX[(low >>> 8) & 0xff]}:${HEX[low & 0xff]}`;
  }

  toJSON(): string {
    return this.toString();
  }
}
