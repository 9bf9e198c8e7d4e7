/** One change of the kernel's tables, and the message that brings it about. */
import { addAddressRequest, deleteAddressRequest } from "../netlink/address.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import type { Link } from "../netlink/link.ts";
import {
  createIpipRequest,
  createVxlanRequest,
  deleteLinkRequest,
  type LinkChange,
  setLinkRequest,
} from "../netlink/link_request.ts";
import { type FdbEntry, type Neighbour, NUD_PERMANENT } from "../netlink/neighbour.ts";
import {
  addFdbEntryRequest,
  addNeighbourRequest,
  deleteFdbEntryRequest,
  deleteNeighbourRequest,
} from "../netlink/neighbour_request.ts";
import { deleteNexthopRequest, type NewNexthop, putNexthopRequest } from "../netlink/nexthop.ts";
import type { NetlinkRequest } from "../netlink/request.ts";
import type { Route } from "../netlink/route.ts";
import {
  addBlackholeRequest,
  addRouteRequest,
  deleteRouteRequest,
  type NewBlackhole,
  type NewRoute,
} from "../netlink/route_request.ts";
import type {
  DesiredAddress,
  DesiredFdbEntry,
  DesiredIpip,
  DesiredNeighbour,
  DesiredVxlan,
} from "./state.ts";

/** One change to make. `peerKey`: the peer that it is made for, by its lease key. */
export type KernelOperation =
  | { readonly type: "create_link"; readonly desired: DesiredVxlan | DesiredIpip }
  | { readonly type: "delete_link"; readonly link: Link }
  | { readonly type: "set_link"; readonly link: Link; readonly change: LinkChange }
  | { readonly type: "add_address"; readonly link: Link; readonly desired: DesiredAddress }
  | { readonly type: "delete_address"; readonly link: Link; readonly address: InterfaceAddress }
  | { readonly type: "put_neighbour"; readonly link: Link; readonly desired: DesiredNeighbour }
  | { readonly type: "delete_neighbour"; readonly link: Link; readonly neighbour: Neighbour }
  | { readonly type: "put_fdb"; readonly link: Link; readonly desired: DesiredFdbEntry }
  | { readonly type: "delete_fdb"; readonly link: Link; readonly entry: FdbEntry }
  | { readonly type: "put_nexthop"; readonly nexthop: NewNexthop; readonly peerKey: string | null }
  | { readonly type: "delete_nexthop"; readonly id: number }
  | { readonly type: "delete_route"; readonly route: Route }
  | { readonly type: "add_blackhole"; readonly route: NewBlackhole }
  | {
    readonly type: "add_route" | "replace_route";
    readonly route: NewRoute;
    readonly peerKey: string | null;
  };

/** The peer that an operation is made for; null: for all. */
export function peerKeyOf(operation: KernelOperation): string | null {
  if ("peerKey" in operation) return operation.peerKey;
  if (!("desired" in operation) || !("peerKey" in operation.desired)) return null;
  return operation.desired.peerKey;
}

function createLinkRequest(desired: DesiredVxlan | DesiredIpip): NetlinkRequest {
  const { name, mtu_bytes, outerLinkIndex: linkIndex, local } = desired;
  if (desired.kind === "ipip") return createIpipRequest({ name, mtu_bytes, linkIndex, local });
  const { vni, port, isLearning, isGbp, isProxy, isL2Miss } = desired;
  const macAddress = `${desired.macAddress}`;
  const link = { name, mtu_bytes, macAddress, linkIndex, local };
  return createVxlanRequest({ ...link, vni, port, isLearning, isGbp, isProxy, isL2Miss });
}

/** `linkNames` are for errors. */
function requestForRoute(
  operation: KernelOperation & { type: `${string}_route` },
  linkNames: ReadonlyMap<number, string>,
): NetlinkRequest {
  if (operation.type !== "delete_route") {
    return addRouteRequest(operation.route, operation.type === "replace_route");
  }
  const index = operation.route.nextHops[0]?.linkIndex;
  const name = index === undefined ? "" : linkNames.get(index) ?? `#${index}`;
  return deleteRouteRequest(operation.route, name);
}

/** The message that brings one operation about. `linkNames`, by index, are for errors. */
export function requestFor(
  operation: KernelOperation,
  linkNames: ReadonlyMap<number, string>,
): NetlinkRequest {
  switch (operation.type) {
    case "create_link":
      return createLinkRequest(operation.desired);
    case "delete_link":
      return deleteLinkRequest(operation.link);
    case "set_link":
      return setLinkRequest(operation.link, operation.change);
    case "add_address": {
      const { link, desired: { address, prefixLength } } = operation;
      const entry = { linkIndex: link.index, linkName: link.name, address, prefixLength };
      return addAddressRequest(entry, false);
    }
    case "delete_address":
      return deleteAddressRequest({ ...operation.address, linkName: operation.link.name });
    case "put_neighbour": {
      const { link, desired: { address, macAddress } } = operation;
      const of = { linkIndex: link.index, linkName: link.name, state: NUD_PERMANENT };
      return addNeighbourRequest({ ...of, address, macAddress }, true);
    }
    case "delete_neighbour":
      return deleteNeighbourRequest({ ...operation.neighbour, linkName: operation.link.name });
    case "put_fdb": {
      const { link, desired: { address, macAddress } } = operation;
      const of = { linkIndex: link.index, linkName: link.name, state: NUD_PERMANENT };
      return addFdbEntryRequest({ ...of, address, macAddress }, true);
    }
    case "delete_fdb":
      return deleteFdbEntryRequest({ ...operation.entry, linkName: operation.link.name });
    case "put_nexthop":
      return putNexthopRequest(operation.nexthop);
    case "delete_nexthop":
      return deleteNexthopRequest(operation.id);
    case "add_blackhole":
      return addBlackholeRequest(operation.route);
    default:
      return requestForRoute(operation, linkNames);
  }
}
