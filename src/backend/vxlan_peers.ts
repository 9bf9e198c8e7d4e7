/**
 * What both datapaths of backend `vxlan` have in common. Each peer has one VTEP a family, whose MAC
 * is in its lease, as flannel's backend of the same name has it.
 */
import { z } from "zod";
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { isAwaitingHost, type Lease, type LeaseAttributes } from "../lease/lease.ts";
import {
  ETHERNET_HEADER_BYTES,
  ipHeaderBytes,
  MTU_BYTES_MIN,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from "../net/header_length.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import { MacAddress } from "../net/mac_address.ts";
import type { PeerEntry, PlanInput, SkippedPeer, VtepMacs } from "./backend.ts";
import { familiesOf } from "./desired.ts";
import { NOT_COME_YET, type PlannedPeers, planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";
import { readVxlanOptions } from "./vxlan_options.ts";
import { publishedAddresses } from "./published_addresses.ts";

export const VXLAN_TYPE = "vxlan";
/** `IFNAMSIZ` without the NUL. */
const DEVICE_NAME_LENGTH_MAX = 15;

/** What ends it that two hosts have one MAC, as after copying a state directory. */
const NEW_MAC_ADVICE = "on one of the two hosts remove vtep.json from the state directory and " +
  "restart selvage";

/** As flannel writes BackendData and BackendV6Data; before v0.9 without VNI. */
const vtepSchema = z.object({ VNI: z.number().nullish(), VtepMAC: z.string() });

/** flannel's names with ours in front; shortened where a large VNI would make one too long. */
export function deviceName(family: Family, vni: number): string {
  const name = `selvage${family === 4 ? "" : "-v6"}.${vni}`;
  return name.length <= DEVICE_NAME_LENGTH_MAX ? name : `selv${family}.${vni}`;
}

/** What lies around an inner packet of the family, in bytes. */
function overhead_bytes(family: Family): number {
  return ipHeaderBytes(family) + UDP_HEADER_BYTES + VXLAN_HEADER_BYTES + ETHERNET_HEADER_BYTES;
}

/** Throws `invalid_argument` if the MTU that is asked for is too small on every interface. */
export function checkOuterMtu(config: NetworkConfig): void {
  const { outerMtu_bytes } = readVxlanOptions(config);
  if (outerMtu_bytes === 0) return;
  for (const family of familiesOf(config)) {
    const min_bytes = MTU_BYTES_MIN[family] + overhead_bytes(family);
    if (outerMtu_bytes >= min_bytes) continue;
    throw new SelvageError(
      "invalid_argument",
      `network configuration: Backend.MTU ${outerMtu_bytes} leaves no room for IPv${family} in ` +
        "VXLAN",
      { hint: `Give ${min_bytes} or more, or leave MTU out for the interface's.` },
    );
  }
}

/** Bytes of the largest inner packet of the family. Throws `unsupported` if that is too few. */
export function mtuOf(config: NetworkConfig, link: OuterLink, family: Family): number {
  const { outerMtu_bytes } = readVxlanOptions(config);
  // More than the interface carries is more than can be sent.
  const outer_bytes = Math.min(outerMtu_bytes || link.mtu_bytes, link.mtu_bytes);
  const mtu_bytes = outer_bytes - overhead_bytes(family);
  if (mtu_bytes >= MTU_BYTES_MIN[family]) return mtu_bytes;
  throw new SelvageError(
    "unsupported",
    `interface ${link.name}: an MTU of ${outer_bytes} leaves no room for IPv${family} in VXLAN`,
    { hint: `Set the interface's MTU, or Backend.MTU, higher, or switch IPv${family} off.` },
  );
}

export function checkVxlanLink(config: NetworkConfig, link: OuterLink): void {
  for (const family of familiesOf(config)) {
    mtuOf(config, link, family);
    for (const addresses of [link.addresses, link.publicAddresses]) {
      if (ofFamily(addresses, family) !== undefined) continue;
      throw new SelvageError("unsupported", `interface ${link.name} has no IPv${family} address`, {
        hint: "Give it one, or choose another interface with --iface.",
      });
    }
  }
}

/** One peer behind its VTEP. */
export interface VtepEntry extends PeerEntry {
  readonly vtepMac: MacAddress;
}

/** The peer's VTEP in one family, or why it has none that we can send to. */
function readVtep(peer: Lease, family: Family, input: PlanInput): MacAddress | string {
  if (isAwaitingHost(peer)) return NOT_COME_YET;
  const field = family === 4 ? "BackendData" : "BackendV6Data";
  const data = vtepSchema.safeParse(peer.backendData[family]);
  if (!data.success) return `it publishes no VtepMAC in its ${field}`;
  const { VNI, VtepMAC } = data.data;
  const { vni } = readVxlanOptions(input.config);
  const mac = MacAddress.tryParse(VtepMAC);
  if (mac === null || !mac.isUnicast()) {
    return `VtepMAC ${JSON.stringify(VtepMAC.slice(0, 40))} in its ${field} is not a VTEP's`;
  }
  if (VNI !== undefined && VNI !== null && VNI !== vni) return `its VNI is ${VNI}, ours is ${vni}`;
  if (mac.equals(input.vtepMacs[family])) return `it has our VtepMAC ${mac}; ${NEW_MAC_ADVICE}`;
  return mac;
}

function withVtep(
  reach: PeerEntry | string,
  peer: Lease,
  family: Family,
  input: PlanInput,
): VtepEntry | string {
  if (typeof reach === "string") return reach;
  const vtepMac = readVtep(peer, family, input);
  return typeof vtepMac === "string" ? vtepMac : { ...reach, vtepMac };
}

/** The peer's entry, or why it cannot be served, if each peer's subnet has a route of its own. */
function planPeer(peer: Lease, family: Family, input: PlanInput): VtepEntry | string {
  return withVtep(reachPeer(peer, family, VXLAN_TYPE, input), peer, family, input);
}

/** The same if the whole network is routed into the tunnel. */
function planPeerOfTunnel(peer: Lease, family: Family, input: PlanInput): VtepEntry | string {
  return withVtep(reachPeer(peer, family, VXLAN_TYPE, input, true), peer, family, input);
}

/**
 * Of hosts with one VTEP the first is kept: a frame says by its MAC alone for whom it is. It is the
 * first by subnet, not by time, so that all hosts keep the same one. One host may have two leases,
 * such as a reservation that does not fit the network any more.
 */
function keepFirstOfVtep(
  { entries, skipped }: PlannedPeers<VtepEntry>,
): PlannedPeers<VtepEntry> {
  const first = new Map<string, VtepEntry>();
  const twins: SkippedPeer[] = [];
  const kept = entries.filter((entry) => {
    const vtep = `${entry.subnet.family} ${entry.vtepMac}`;
    const other = first.get(vtep);
    if (other === undefined) first.set(vtep, entry);
    if (other === undefined || other.address.equals(entry.address)) return true;
    const reason = `it has the VtepMAC ${entry.vtepMac} of ${other.key}, which is served in its ` +
      `place; ${NEW_MAC_ADVICE}`;
    twins.push({ key: entry.key, reason });
    return false;
  });
  return { entries: kept, skipped: [...skipped, ...twins] };
}

/** Every peer in every family; no two have one VTEP. */
export function planVteps(
  input: PlanInput,
  routesWholeNetwork: boolean,
): PlannedPeers<VtepEntry> {
  const planOne = routesWholeNetwork ? planPeerOfTunnel : planPeer;
  return keepFirstOfVtep(planPeers(input, familiesOf(input.config), planOne));
}

/** Bytes of the largest inner packet that every family carries. */
export function vxlanMtu_bytes(config: NetworkConfig, link: OuterLink): number {
  return Math.min(...familiesOf(config).map((family) => mtuOf(config, link, family)));
}

export function vxlanAttributes(
  config: NetworkConfig,
  link: OuterLink,
  vtepMacs: VtepMacs,
): LeaseAttributes {
  const { vni } = readVxlanOptions(config);
  // flannel reads its own MAC back as text: VNI comes first and VtepMAC last.
  const data = familiesOf(config).map((family) =>
    [family, { VNI: vni, VtepMAC: `${vtepMacs[family]}` }] as const
  );
  return {
    publicAddresses: publishedAddresses(config, link),
    backendType: VXLAN_TYPE,
    backendData: Object.fromEntries(data),
  };
}
