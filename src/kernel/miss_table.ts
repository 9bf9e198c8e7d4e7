/** Look-ups in a `MissTable`. */
import type { IpAddress } from "../net/ip.ts";
import type { MacAddress } from "../net/mac_address.ts";
import type { MissPeer, MissTable } from "./state.ts";

/** Made when first asked for; gone with its table. */
const byMac = new WeakMap<MissTable, ReadonlyMap<string, IpAddress>>();

/** The peer in whose subnet the address lies. */
function peerOf({ peers }: MissTable, address: IpAddress): MissPeer | undefined {
  let low = 0;
  let high = peers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (peers[middle]!.subnet.address.compare(address) <= 0) low = middle + 1;
    else high = middle;
  }
  const peer = peers[low - 1];
  return peer?.subnet.contains(address) ? peer : undefined;
}

/** The MAC of the VTEP behind which an inner address is; undefined: behind none. */
export function vtepOfAddress(table: MissTable, address: IpAddress): MacAddress | undefined {
  return peerOf(table, address)?.vtepMac;
}

/** Where the VTEP with this MAC is; undefined: it is no peer's. */
export function addressOfVtep(table: MissTable, macAddress: MacAddress): IpAddress | undefined {
  let addresses = byMac.get(table);
  if (addresses === undefined) {
    addresses = new Map(table.peers.map((peer) => [`${peer.vtepMac}`, peer.address]));
    byMac.set(table, addresses);
  }
  return addresses.get(`${macAddress}`);
}
