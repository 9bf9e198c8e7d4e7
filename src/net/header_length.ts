/**
 * Lengths in bytes of the headers that encapsulation adds, of which every MTU is a sum; and what an
 * MTU is at least.
 */
import type { Family } from "./ip.ts";

/** RFC 768. */
export const UDP_HEADER_BYTES = 8;

/** RFC 7348 section 5. */
export const VXLAN_HEADER_BYTES = 8;

/** Without VLAN tag, as VXLAN carries it. */
export const ETHERNET_HEADER_BYTES = 14;

/** What every link must carry: RFC 791 section 3.2, RFC 8200 section 5. */
export const MTU_BYTES_MIN: Readonly<Record<Family, number>> = { 4: 68, 6: 1280 };

/** Without options or extension headers: RFC 791 section 3.1, RFC 8200 section 3. */
export function ipHeaderBytes(family: Family): number {
  return family === 4 ? 20 : 40;
}
