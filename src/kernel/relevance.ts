/** What a notification of the kernel means to us. Pure. */
import { decodeAddress, RTM_DELADDR, RTM_NEWADDR } from "../netlink/address.ts";
import { AF_BRIDGE } from "../netlink/layout.ts";
import { decodeLink, RTM_DELLINK, RTM_NEWLINK } from "../netlink/link.ts";
import type { IpAddress } from "../net/ip.ts";
import type { NetlinkMessage } from "../netlink/message.ts";
import {
  decodeFdbEntry,
  decodeMiss,
  decodeNeighbour,
  type Miss,
  NUD_PERMANENT,
  NUD_VALID,
  readNeighbourHeader,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from "../netlink/neighbour.ts";
import { RTM_DELNEXTHOP, RTM_NEWNEXTHOP } from "../netlink/nexthop.ts";
import { RTM_DELNETCONF, RTM_NEWNETCONF } from "../netlink/notification.ts";
import { decodeRoute, RTM_DELROUTE, RTM_NEWROUTE } from "../netlink/route.ts";
import { addressOfVtep, vtepOfAddress } from "./miss_table.ts";
import { isOwnRoute } from "./route_diff.ts";
import type { MissTable } from "./state.ts";

/** What we look out for. */
export interface Interest {
  /** Of our own devices. */
  readonly linkNames: ReadonlySet<string>;
  readonly linkIndexes: ReadonlySet<number>;
  readonly outerLink: {
    readonly name: string;
    readonly index: number;
    /** If one of these appears or changes, another outer link may be chosen. */
    readonly publicAddresses?: readonly IpAddress[];
  };
  /** Of our routes, as text. */
  readonly destinations: ReadonlySet<string>;
  /** By the index of the device: what is made on demand there. */
  readonly misses: ReadonlyMap<number, MissTable>;
  /** Our own netlink port: what it asked for is no news. */
  readonly ownPortId: number;
}

/** `tables`: what is ours may have changed; `outer_link`: the outer interface may have. */
export type Relevance = "tables" | "outer_link" | Miss;

function judgeLink(payload: Uint8Array, interest: Interest): Relevance[] {
  const { name, index } = decodeLink(payload);
  const { outerLink, linkNames, linkIndexes } = interest;
  const isOuter = name === outerLink.name || index === outerLink.index;
  const isOurs = linkNames.has(name) || linkIndexes.has(index);
  return [
    ...(isOuter ? ["outer_link" as const] : []),
    // Routes of ours go with the outer link that carries them.
    ...(isOurs || isOuter ? ["tables" as const] : []),
  ];
}

function judgeAddress(payload: Uint8Array, interest: Interest): Relevance[] {
  const address = decodeAddress(payload);
  if (address === null) return [];
  if (interest.linkIndexes.has(address.linkIndex)) return ["tables"];
  const { index, publicAddresses } = interest.outerLink;
  if (address.linkIndex === index) return ["outer_link", "tables"];
  return publicAddresses?.some((one) => one.equals(address.address)) ? ["outer_link"] : [];
}

function judgeRoute(payload: Uint8Array, interest: Interest): Relevance[] {
  const route = decodeRoute(payload);
  if (route === null || route.isCloned) return [];
  if (isOwnRoute(route) || interest.destinations.has(`${route.destination}`)) return ["tables"];
  const isOuter = route.destination.length === 0 ||
    route.nextHops.some(({ linkIndex }) => linkIndex === interest.outerLink.index);
  return isOuter ? ["outer_link"] : [];
}

/** Whether an entry of a device whose entries are made on demand says what we would say. */
function isAsAnswered(payload: Uint8Array, familyCode: number, table: MissTable): boolean {
  if (familyCode === AF_BRIDGE) {
    const entry = decodeFdbEntry(payload);
    if (entry === null || !table.isFdbOnMiss) return entry === null;
    if ((entry.state & NUD_PERMANENT) !== 0 || entry.address === null) return false;
    return addressOfVtep(table, entry.macAddress)?.equals(entry.address) !== false;
  }
  const neighbour = decodeNeighbour(payload);
  if (neighbour === null || (neighbour.state & NUD_VALID) === 0) return true;
  const { macAddress, address } = neighbour;
  return macAddress === null || vtepOfAddress(table, address)?.equals(macAddress) === true;
}

function judgeNeighbour({ type, payload }: NetlinkMessage, interest: Interest): Relevance[] {
  const { linkIndex, familyCode } = readNeighbourHeader(payload);
  if (!interest.linkIndexes.has(linkIndex)) return [];
  const table = interest.misses.get(linkIndex);
  if (table === undefined) return ["tables"];
  // Entries come and go there, and the kernel asks for those it needs.
  const isLasting = familyCode === AF_BRIDGE && !table.isFdbOnMiss;
  if (type === RTM_DELNEIGH) return isLasting ? ["tables"] : [];
  return isAsAnswered(payload, familyCode, table) ? [] : ["tables"];
}

function judgeMiss(payload: Uint8Array, interest: Interest): Relevance[] {
  if (!interest.misses.has(readNeighbourHeader(payload).linkIndex)) return [];
  const miss = decodeMiss(payload);
  return miss === null ? [] : [miss];
}

/** What one message means; nothing for most. Throws `NetlinkDecodeError`. */
export function judge(message: NetlinkMessage, interest: Interest): Relevance[] {
  const { type, payload } = message;
  if (type === RTM_GETNEIGH) return judgeMiss(payload, interest);
  if (message.portId !== 0 && message.portId === interest.ownPortId) return [];
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return judgeLink(payload, interest);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return judgeAddress(payload, interest);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return judgeRoute(payload, interest);
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return judgeNeighbour(message, interest);
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
      // Whose it was is not in all of them, and hardly anybody has any.
      return ["tables"];
    case RTM_NEWNETCONF:
    case RTM_DELNETCONF:
      return ["tables"];
    default:
      return [];
  }
}
