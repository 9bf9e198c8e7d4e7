/** The answer to what the kernel asks for. Pure. */
import { type Miss, NUD_REACHABLE } from "../netlink/neighbour.ts";
import { addFdbEntryRequest, addNeighbourRequest } from "../netlink/neighbour_request.ts";
import type { NetlinkRequest } from "../netlink/request.ts";
import { addressOfVtep, vtepOfAddress } from "./miss_table.ts";
import type { MissTable } from "./state.ts";

/**
 * The entry that the kernel asks for, which ages like any that it finds out itself; null: it is
 * for nobody whom we know, and nothing is made of it.
 */
export function answerMiss(miss: Miss, table: MissTable): NetlinkRequest | null {
  const of = { linkIndex: miss.linkIndex, linkName: table.linkName, state: NUD_REACHABLE };
  if (miss.address !== null) {
    const macAddress = vtepOfAddress(table, miss.address);
    if (macAddress === undefined) return null;
    return addNeighbourRequest({ ...of, address: miss.address, macAddress }, true);
  }
  if (miss.macAddress === null || !table.isFdbOnMiss) return null;
  const address = addressOfVtep(table, miss.macAddress);
  if (address === undefined) return null;
  return addFdbEntryRequest({ ...of, macAddress: miss.macAddress, address }, true);
}
