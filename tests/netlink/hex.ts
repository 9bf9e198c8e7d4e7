/** Bytes as text, for golden tests. */

/** Reads bytes such as `"08 00 | 0a05"`: blanks and `|` are for the reader alone. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/[\s|]/g, "");
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`no bytes: ${text}`);
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Writes bytes as pairs of digits with a blank between them. */
export function toHex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** The same bytes in a longer buffer, at an odd offset, as datagrams may hold them. */
export function embed(bytes: Uint8Array): Uint8Array {
  const buffer = new Uint8Array(bytes.length + 7).fill(0xa5);
  buffer.set(bytes, 3);
  return buffer.subarray(3, 3 + bytes.length);
}

/**
 * The lengths to which `bytes` can be cut without cutting an attribute: the ends of the header and
 * of each attribute, with or without its padding.
 */
export function wholeLengths(bytes: Uint8Array, header_bytes: number): Set<number> {
  const lengths = new Set([header_bytes]);
  for (let offset = header_bytes; offset < bytes.length;) {
    const end = offset + bytes[offset]! + bytes[offset + 1]! * 256;
    offset = Math.ceil(end / 4) * 4;
    for (let length = end; length <= offset; length++) lengths.add(length);
  }
  return lengths;
}
