/** What the kernel has, of what may matter to a desired state. */
import type { InterfaceAddress } from "../netlink/address.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import type { Link } from "../netlink/link.ts";
import type { FdbEntry, Neighbour } from "../netlink/neighbour.ts";
import type { NexthopObject } from "../netlink/nexthop.ts";
import type { Route } from "../netlink/route.ts";
import {
  listAddresses,
  listFdb,
  listLinks,
  listNeighbours,
  listNexthops,
  listRoutes,
} from "../netlink/rtnetlink.ts";
import { isOwnRoute } from "./route_diff.ts";
import type { KernelState } from "./state.ts";

export interface ActualState {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  /** Of table main, in the kernel's order: ours, and those whose destination is desired. */
  readonly routes: readonly Route[];
  /** Of the whole namespace; null: this kernel has none. */
  readonly nexthops: readonly NexthopObject[] | null;
  /** By the index of the link: those of VXLAN devices of the desired state. */
  readonly neighbours: ReadonlyMap<number, readonly Neighbour[]>;
  readonly fdb: ReadonlyMap<number, readonly FdbEntry[]>;
}

/** A kernel without the family has nothing of it, and a device that is just gone has nothing. */
function listIfThere<T>(list: () => T[]): T[] {
  try {
    return list();
  } catch (error) {
    if (hasErrno(error, "EOPNOTSUPP", "EAFNOSUPPORT", "ENODEV")) return [];
    throw error;
  }
}

/** Reads the tables. `linkIndexes`: where the links of the plan were last seen. */
export function dumpKernel(
  connection: NetlinkConnection,
  desired: KernelState,
  linkIndexes: ReadonlyMap<string, number>,
): ActualState {
  const { routes, blackholes } = desired;
  const destinations = new Set([...routes, ...blackholes].map((one) => `${one.destination}`));
  const keep = (route: Route): boolean =>
    isOwnRoute(route) || destinations.has(`${route.destination}`);
  const links = listLinks(connection);
  const vxlans = desired.links.filter(({ kind }) => kind === "vxlan").flatMap(({ name }) =>
    links.filter((link) =>
      link.kind === "vxlan" && (link.name === name || link.index === linkIndexes.get(name))
    )
  );
  const bothNeighbours = (index: number) =>
    ([4, 6] as const).flatMap((family) =>
      listIfThere(() => listNeighbours(connection, family, index))
    );
  return {
    links,
    addresses: listAddresses(connection),
    routes: ([4, 6] as const).flatMap((family) =>
      listIfThere(() => listRoutes(connection, family, { keep }))
    ),
    nexthops: listNexthops(connection),
    neighbours: new Map(vxlans.map(({ index }) => [index, bothNeighbours(index)])),
    fdb: new Map(vxlans.map(({ index }) => [index, listIfThere(() => listFdb(connection, index))])),
  };
}
