/** Where the addresses of a packet inside the kernel's tunnel are. */
import type { PacketField } from "../../kernel/firewall_state.ts";
import {
  ETHERNET_HEADER_BYTES,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from "../../net/header_length.ts";
import type { Family, IpAddress } from "../../net/ip.ts";
import type { KernelCarrier } from "./input.ts";
import { addressField } from "./rule.ts";

export const INNER_FRAME_OFFSET_BYTES = UDP_HEADER_BYTES + VXLAN_HEADER_BYTES;

/** How far behind the outer IP header the inner one is. */
function innerOffset_bytes(carrier: KernelCarrier): number {
  return carrier.type === "ipip" ? 0 : INNER_FRAME_OFFSET_BYTES + ETHERNET_HEADER_BYTES;
}

export function innerField(
  family: Family,
  side: "source" | "destination",
  carrier: KernelCarrier,
): PacketField {
  return addressField(family, side, "transport", innerOffset_bytes(carrier));
}

/**
 * The parts that cover the first `length` bits of an inner IPv4 address in a frame, which is not at
 * a multiple of 4: the kernel reads parts that are aligned to their size several times as fast.
 * null: these bits, or such an address, are read as a whole.
 */
export function alignedParts(field: PacketField, length: number): PacketField[] | null {
  const { offset_bytes, size_bytes } = field;
  if (size_bytes !== 4 || offset_bytes % 4 !== 2 || ![16, 24, 32].includes(length)) return null;
  const high = { ...field, size_bytes: 2 };
  const low = { ...field, offset_bytes: offset_bytes + 2, size_bytes: length / 8 - 2 };
  return length === 16 ? [high] : [high, low];
}

/** The bytes of an address that a part of its field has. */
export function bytesOf(address: IpAddress, field: PacketField, part: PacketField): Uint8Array {
  const start = part.offset_bytes - field.offset_bytes;
  return address.toBytes().subarray(start, start + part.size_bytes);
}
