/**
 * The only writer to the kernel's tables: holds them to the desired state and touches nothing that
 * is not ours.
 */
import { SelvageError } from "../errors.ts";
import { addAddressRequest, deleteAddressRequest } from "../netlink/address.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import { setLinkRequest } from "../netlink/link_request.ts";
import type { NetlinkRequest } from "../netlink/request.ts";
import { addRouteRequest, deleteRouteRequest } from "../netlink/route_request.ts";
import type { Route } from "../netlink/route.ts";
import { getLink, listAddresses, listLinks, listRoutes } from "../netlink/rtnetlink.ts";
import { type ActualState, diffKernelState, isOwnRoute, type KernelOperation } from "./diff.ts";
import type { KernelState } from "./state.ts";

/** Rounds of dump, difference and change: the kernel's side effects may need a second one. */
const ROUNDS_MAX = 4;

const NOTHING: KernelState = { links: [], addresses: [], routes: [] };

export interface ReconcileResult {
  /** Changes the kernel took; 0 when everything was as desired. */
  readonly changeCount: number;
  /** What is not as desired and why, one sentence each; empty when the kernel is as desired. */
  readonly problems: readonly string[];
}

/** The message that brings one operation about. */
function requestFor(
  operation: KernelOperation,
  linkNames: ReadonlyMap<number, string>,
): NetlinkRequest {
  switch (operation.type) {
    case "set_link": {
      const { link, mtu_bytes, isUp } = operation;
      return setLinkRequest(link, { mtu_bytes, isUp });
    }
    case "add_address": {
      const { link, desired: { address, prefixLength } } = operation;
      const entry = { linkIndex: link.index, linkName: link.name, address, prefixLength };
      return addAddressRequest(entry, false);
    }
    case "delete_address":
      return deleteAddressRequest({ ...operation.address, linkName: operation.link.name });
    case "delete_route": {
      const index = operation.route.nextHops[0]?.linkIndex;
      const name = index === undefined ? "" : linkNames.get(index) ?? `#${index}`;
      return deleteRouteRequest(operation.route, name);
    }
    case "add_route":
      return addRouteRequest(operation.route, false);
    case "replace_route":
      return addRouteRequest(operation.route, true);
  }
}

export class Reconciler {
  readonly #connection: NetlinkConnection;
  /** Every link that a desired state has held: what is left on them is ours to remove. */
  readonly #linkNames = new Set<string>();

  /** Borrows the connection, which stays the caller's to close. */
  constructor(connection: NetlinkConnection) {
    this.#connection = connection;
  }

  /**
   * Makes the kernel as desired: dumps, applies the difference, and dumps again until nothing
   * differs. What cannot be done becomes a problem of the result and is tried again by the next
   * call; the rest is done. Throws `NetlinkError` or `SystemError` only if the kernel cannot be
   * read at all.
   */
  reconcile(desired: KernelState): ReconcileResult {
    for (const { name } of desired.links) this.#linkNames.add(name);
    let changeCount = 0;
    let failures: string[] = [];
    let isStuck = false;
    for (let round = 1;; round++) {
      const actual = this.#dump(desired);
      const { operations, problems } = diffKernelState(desired, actual, this.#linkNames);
      if (operations.length === 0) return { changeCount, problems };
      if (isStuck || round === ROUNDS_MAX) {
        if (failures.length === 0) failures.push("someone else keeps changing the kernel's tables");
        return { changeCount, problems: [...problems, ...failures] };
      }
      const names = new Map(actual.links.map((link) => [link.index, link.name]));
      const requests = operations.map((operation) => requestFor(operation, names));
      failures = [];
      for (const { error } of this.#connection.batch(requests)) {
        if (error === null) changeCount += 1;
        else failures.push(error.message);
      }
      isStuck = failures.length === requests.length;
    }
  }

  /**
   * Removes everything that is ours from the kernel's tables: our routes, also those that an
   * earlier run left behind, and the addresses of our links. The links go when their files are
   * closed.
   */
  clear(): ReconcileResult {
    return this.reconcile(NOTHING);
  }

  /** Throws `conflict` if there is a device of this name: no device is ever taken over. */
  ensureNameFree(name: string): void {
    const link = getLink(this.#connection, name);
    if (link === null) return;
    const kind = link.tun?.mode ?? link.kind ?? "hardware";
    throw new SelvageError("conflict", `device ${name} exists already and is not ours (${kind})`, {
      hint: `Remove it with "ip link delete ${name}", or end the program that made it, ` +
        "which may be another selvage or flanneld.",
    });
  }

  #dump(desired: KernelState): ActualState {
    const destinations = new Set(desired.routes.map(({ destination }) => `${destination}`));
    const keep = (route: Route): boolean =>
      isOwnRoute(route) || destinations.has(`${route.destination}`);
    return {
      links: listLinks(this.#connection),
      addresses: listAddresses(this.#connection),
      routes: [...this.#listRoutes(4, keep), ...this.#listRoutes(6, keep)],
    };
  }

  #listRoutes(family: 4 | 6, keep: (route: Route) => boolean): Route[] {
    try {
      return listRoutes(this.#connection, family, { keep });
    } catch (error) {
      // A kernel without IPv6 has no IPv6 routes.
      if (hasErrno(error, "EOPNOTSUPP", "EAFNOSUPPORT")) return [];
      throw error;
    }
  }
}
