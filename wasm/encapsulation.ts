/**
 * What lies between the UDP header and the inner packet: nothing (flannel's udp backend), or a
 * VXLAN and an Ethernet header.
 */
import { load16, load32, store16, store32 } from "./bytes.ts";
import {
  DROP_BAD_VXLAN,
  DROP_NOT_IP,
  DROP_NOT_OUR_MAC,
  DROP_TRUNCATED,
  LANE_VNI_OFFSET,
  LANE_VTEP_MAC_OFFSET,
} from "./layout.ts";
import * as lane from "./lane.ts";
import { vtepMac } from "./peer.ts";
import * as vxlan from "./wire/vxlan.ts";

const NO_VNI = -1;
const MAC_MASK: u64 = 0xffffffffffff;

/** Bytes of it before each inner packet. */
export let size: i32 = 0;

let vni: i32 = 0;
/** As in `LANE_VTEP_MAC_OFFSET`. */
let ownMac: u64 = 0;
let ethertype: u32 = 0;

/** Before a loop's first batch. */
export function setUp(): void {
  vni = lane.field(LANE_VNI_OFFSET);
  size = vni === NO_VNI ? 0 : vxlan.SIZE;
  ownMac = lane.wideField(LANE_VTEP_MAC_OFFSET);
  ethertype = lane.isV6 ? vxlan.ETHERTYPE_IPV6 : vxlan.ETHERTYPE_IPV4;
}

/** Writes it right before a packet to a peer, where `PACKET_HEADROOM` bytes are free. */
export function write(packet: i32, slot: i32): void {
  if (size === 0) return;
  const at = packet - vxlan.SIZE;
  store32(at + vxlan.FLAGS, vxlan.FLAG_VNI << 24);
  store32(at + vxlan.VNI, <u32> vni << 8);
  // Eight bytes each, of which the last two are written over by what follows.
  store<u64>(at + vxlan.DESTINATION_MAC, vtepMac(slot));
  store<u64>(at + vxlan.SOURCE_MAC, ownMac);
  store16(at + vxlan.ETHERTYPE, ethertype);
}

/** Whether the datagram's inner packet is for us: 0, or the reason to drop it. */
export function check(datagram: i32, length: i32): i32 {
  if (size === 0) return 0;
  if (length < size) return DROP_TRUNCATED;
  const flags = <u32> load<u8>(datagram + vxlan.FLAGS);
  const isOurs = <i32> (load32(datagram + vxlan.VNI) >> 8) === vni;
  if ((flags & vxlan.FLAG_VNI) === 0 || !isOurs) return DROP_BAD_VXLAN;
  const to = load<u64>(datagram + vxlan.DESTINATION_MAC) & MAC_MASK;
  if (to !== ownMac) return DROP_NOT_OUR_MAC;
  return load16(datagram + vxlan.ETHERTYPE) === ethertype ? 0 : DROP_NOT_IP;
}
