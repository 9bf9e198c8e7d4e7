/** IPv4 packets for tests, made without the code under test. */
import { IpAddress } from "../../src/net/ip.ts";

export interface PacketParts {
  readonly from?: string;
  readonly to?: string;
  readonly ttl?: number;
  readonly protocol?: number;
  /** Flags and fragment offset field. */
  readonly fragment?: number;
  /** A multiple of 4 bytes. */
  readonly options?: Uint8Array;
  readonly payload?: Uint8Array;
}

/** RFC 1071, the slow way: the naive twin of `wasm/checksum.ts`. */
export function naiveChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return 0xffff - sum;
}

/** A whole packet with a right checksum; UDP from 10.0.1.2 to 10.0.2.3 with TTL 64 by default. */
export function packet(parts: PacketParts = {}): Uint8Array<ArrayBuffer> {
  const options = parts.options ?? new Uint8Array();
  const payload = parts.payload ?? Uint8Array.from({ length: 16 }, (_, i) => i);
  const headerLength = 20 + options.length;
  const bytes = new Uint8Array(headerLength + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x40 + headerLength / 4;
  view.setUint16(2, bytes.length);
  view.setUint16(4, 0x1234);
  view.setUint16(6, parts.fragment ?? 0);
  bytes[8] = parts.ttl ?? 64;
  bytes[9] = parts.protocol ?? 17;
  bytes.set(IpAddress.parse(parts.from ?? "10.0.1.2").toBytes(), 12);
  bytes.set(IpAddress.parse(parts.to ?? "10.0.2.3").toBytes(), 16);
  bytes.set(options, 20);
  bytes.set(payload, headerLength);
  return withChecksum(bytes);
}

/** The packet with its header checksum set right; changes and returns `bytes`. */
export function withChecksum(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint16(10, 0);
  view.setUint16(10, naiveChecksum(bytes.subarray(0, (bytes[0]! & 0xf) * 4)));
  return bytes;
}

/** A copy with some bytes replaced, the checksum left as it is. */
export function patched(
  bytes: Uint8Array,
  patches: Readonly<Record<number, number>>,
): Uint8Array<ArrayBuffer> {
  const copy = Uint8Array.from(bytes);
  for (const [at, value] of Object.entries(patches)) copy[Number(at)] = value;
  return copy;
}

/** A copy with one less TTL and the checksum of that. */
export function forwarded(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return withChecksum(patched(bytes, { 8: bytes[8]! - 1 }));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replace(/[^0-9a-f]/g, "");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
