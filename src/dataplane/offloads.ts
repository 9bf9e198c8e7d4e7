/** The kernel's offloads that the loops can use, by name. */
import {
  OFFLOAD_CSUM,
  OFFLOAD_TSO,
  OFFLOAD_UDP_GRO,
  OFFLOAD_UDP_SEGMENT,
  OFFLOAD_USO,
} from "../../wasm/layout.ts";

/**
 * `csum`: checksums at the TUN are left to us; `tso`, `uso`: TCP and UDP pass the TUN in packets of
 * many segments; `udp-segment`, `udp-gro`: datagrams pass the socket many at once.
 */
export type Offload = "csum" | "tso" | "uso" | "udp-segment" | "udp-gro";

const BITS: Readonly<Record<Offload, number>> = {
  csum: OFFLOAD_CSUM,
  tso: OFFLOAD_TSO,
  uso: OFFLOAD_USO,
  "udp-segment": OFFLOAD_UDP_SEGMENT,
  "udp-gro": OFFLOAD_UDP_GRO,
};

/** Every offload there is. */
export const OFFLOADS = Object.keys(BITS) as readonly Offload[];

/** As the loops take them. */
export function offloadBits(offloads: readonly Offload[]): number {
  return offloads.reduce((bits, offload) => bits | BITS[offload], 0);
}
