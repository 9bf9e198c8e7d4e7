/** Ethernet addresses of six bytes (IEEE 802, EUI-48). */
import { randomBytes } from "node:crypto";
import { SelvageError } from "../errors.ts";

const MAC_BYTES = 6;
/** The bits of the first byte (IEEE 802-2014 section 8.2.2). */
const GROUP_BIT = 0x01;
const LOCAL_BIT = 0x02;

/** What Go's `net.ParseMAC` takes of six bytes; the separator is the same throughout. */
const FORMS = [
  /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i,
  /^[0-9a-f]{2}(?:-[0-9a-f]{2}){5}$/i,
  /^[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}$/i,
];

/** One address. Immutable; equal addresses have equal texts. */
export class MacAddress {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  /** The address that the text is, or null if it is none. */
  static tryParse(text: string): MacAddress | null {
    if (!FORMS.some((form) => form.test(text))) return null;
    const bytes = text.replaceAll(/[:.-]/g, "").match(/../g)!;
    return new MacAddress(bytes.join(":").toLowerCase());
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
    return new MacAddress([...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":"));
  }

  /** A locally administered address of one station, else random, as flannel makes them. */
  static random(): MacAddress {
    const bytes = randomBytes(MAC_BYTES);
    bytes[0] = (bytes[0]! & ~GROUP_BIT) | LOCAL_BIT;
    return MacAddress.fromBytes(bytes);
  }

  /** Six bytes, owned by the caller. */
  toBytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#text.split(":"), (byte) => parseInt(byte, 16));
  }

  /** Whether it can be one station's: of no group, and not all zeros. */
  isUnicast(): boolean {
    return (parseInt(this.#text.slice(0, 2), 16) & GROUP_BIT) === 0 && !/^[0:]+$/.test(this.#text);
  }

  equals(other: MacAddress): boolean {
    return this.#text === other.#text;
  }

  /** `aa:bb:cc:dd:ee:ff`, in lower case. */
  toString(): string {
    return this.#text;
  }

  toJSON(): string {
    return this.#text;
  }
}
