/** What Selvage or flanneld left behind in the kernel's tables, and how each thing is removed. */
import { type Family, type IpPrefix } from "../net/ip.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import type { Link } from "../netlink/link.ts";
import { deleteLinkRequest } from "../netlink/link_request.ts";
import { nftTransaction } from "../netlink/nftables/batch.ts";
import { deleteChainRequest } from "../netlink/nftables/chain.ts";
import { type TableName, tableText } from "../netlink/nftables/layout.ts";
import { getChain, getTable, listRules } from "../netlink/nftables/nftables.ts";
import { deleteRuleRequest, type NftRule } from "../netlink/nftables/rule.ts";
import { deleteTableRequest } from "../netlink/nftables/table.ts";
import type { NetlinkRequest } from "../netlink/request.ts";
import { type Route, RTN_BLACKHOLE, RTN_UNICAST } from "../netlink/route.ts";
import { addRouteRequest, deleteRouteRequest } from "../netlink/route_request.ts";
import { listLinks, listRoutes } from "../netlink/rtnetlink.ts";
import { dumpKernel } from "./actual.ts";
import { diffKernelState } from "./diff.ts";
import { FIREWALL_TABLE, GUARD_TABLE } from "./firewall_state.ts";
import { FORWARD_COMMENT, listForwardAccepts } from "./forward_accept.ts";
import { type KernelOperation, requestFor } from "./operation.ts";
import { NO_KERNEL_STATE, RTPROT_SELVAGE } from "./state.ts";

const FAMILIES: readonly Family[] = [4, 6];

export interface Leftover {
  /** Such as `device`. */
  readonly kind: string;
  /** Such as `flannel.1`. */
  readonly object: string;
  /** `hand over`: a running Selvage needs the same route, which becomes its own in one step. */
  readonly action: "remove" | "hand over";
  /** Does it; what has gone meanwhile is no error. Throws `NetlinkError` or `SystemError`. */
  readonly apply: () => void;
}

/** Runs what removes something. For example, deleting a device has removed its routes. */
function unlessGone(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!hasErrno(error, "ESRCH", "ENOENT", "ENODEV")) throw error;
  }
}

function removal(
  kind: string,
  object: string,
  connection: NetlinkConnection,
  request: NetlinkRequest,
): Leftover {
  const apply = () => unlessGone(() => void connection.request(request));
  return { kind, object, action: "remove", apply };
}

/** All of `requests` or none of them. */
function firewallRemoval(
  kind: string,
  object: string,
  connection: NetlinkConnection,
  requests: readonly NetlinkRequest[],
): Leftover {
  const transaction = nftTransaction(`delete ${kind}`, object, requests);
  const apply = () => unlessGone(() => connection.transaction(transaction));
  return { kind, object, action: "remove", apply };
}

const KINDS: Partial<Record<KernelOperation["type"], string>> = {
  delete_link: "device",
  delete_address: "address",
  delete_nexthop: "nexthop object",
  delete_route: "route",
};

/** Our devices, routes and nexthop objects: what the reconciler would remove for no plan at all. */
export function ownLeftovers(connection: NetlinkConnection): Leftover[] {
  const actual = dumpKernel(connection, NO_KERNEL_STATE, new Map());
  const linkNames = new Map(actual.links.map(({ index, name }) => [index, name]));
  const { operations } = diffKernelState(NO_KERNEL_STATE, actual, {
    formerLinkNames: new Set(),
    linkIndexes: new Map(),
    heldRoutes: new Set(),
    isPartial: false,
  });
  return operations.map((operation) => {
    const request = requestFor(operation, linkNames);
    return removal(KINDS[operation.type] ?? "entry", request.object, connection, request);
  });
}

function tablesThere(connection: NetlinkConnection, names: readonly TableName[]): Leftover[] {
  return names.filter((name) => getTable(connection, name) !== null).map((name) =>
    firewallRemoval("firewall table", tableText(name), connection, [deleteTableRequest(name)])
  );
}

/** Our firewall tables, in the order in which they can go. */
export function ownFirewallLeftovers(connection: NetlinkConnection): Leftover[] {
  const names = [FIREWALL_TABLE, GUARD_TABLE].flatMap((name) =>
    FAMILIES.map((family) => ({ family, name }))
  );
  return [...tablesThere(connection, names), ...forwardRules(connection)];
}

/** Our accept rules in forward chains of others, chain by chain. */
function forwardRules(connection: NetlinkConnection): Leftover[] {
  const chains = new Map<string, NftRule[]>();
  for (const rule of listForwardAccepts(connection)) {
    const chain = `${tableText(rule.table)} ${rule.chainName}`;
    chains.set(chain, [...chains.get(chain) ?? [], rule]);
  }
  return [...chains].map(([chain, rules]) =>
    firewallRemoval(
      "accept rules",
      `in ${chain}: ${FORWARD_COMMENT}`,
      connection,
      rules.map(deleteRuleRequest),
    )
  );
}

/** The kind of each device that flanneld makes, by its name. */
const FLANNEL_DEVICES: readonly (readonly [name: RegExp, kind: string])[] = [
  [/^flannel(-v6)?\.\d+$/, "vxlan"],
  [/^flannel\.ipip$/, "ipip"],
  [/^flannel-wg(-v6)?$/, "wireguard"],
  [/^flannel\d+$/, "tun"],
];

function isFlannelDevice({ name, kind }: Link): boolean {
  return FLANNEL_DEVICES.some(([pattern, wanted]) => pattern.test(name) && kind === wanted);
}

/** Flanneld names no protocol, which makes its routes look like an administrator's. */
const RTPROT_BOOT = 3;

/** Flanneld sets no metric; the kernel then uses 0 for IPv4 and 1024 for IPv6. */
const DEFAULT_METRICS: readonly number[] = [0, 1024];

/** What is known of the network that flanneld was in, from its subnet.env. */
export interface FlannelNetwork {
  readonly networks: readonly IpPrefix[];
  /** This host's; those of peers have the same length. */
  readonly subnets: readonly IpPrefix[];
}

/** Whether flanneld made this route: to a peer's subnet (host-gw), or the one that drops ours. */
function isFlannelRoute(route: Route, { networks, subnets }: FlannelNetwork): boolean {
  const { destination, protocol, type, nextHops, metric } = route;
  if (protocol !== RTPROT_BOOT || !DEFAULT_METRICS.includes(metric)) return false;
  // A route to the whole network is not flanneld's: its routes lead to single subnets.
  const isWithin = (network: IpPrefix) =>
    network.length < destination.length && network.containsPrefix(destination);
  if (!networks.some(isWithin)) return false;
  if (type === RTN_BLACKHOLE) return subnets.some((subnet) => subnet.equals(destination));
  const isSubnet = subnets.length === 0 ||
    subnets.some(({ length }) => length === destination.length);
  return type === RTN_UNICAST && isSubnet && nextHops.length === 1 && nextHops[0]!.gateway !== null;
}

/** The same route as one of Selvage's, which takes its place without a moment in between. */
function handOver(
  connection: NetlinkConnection,
  route: Route,
  object: string,
  linkName: string,
): Leftover {
  const { destination, metric } = route;
  const hop = route.nextHops[0]!;
  const request = addRouteRequest({
    destination,
    metric,
    linkIndex: hop.linkIndex,
    linkName,
    gateway: hop.gateway,
    isOnLink: hop.isOnLink,
    protocol: RTPROT_SELVAGE,
  }, true);
  const apply = () => void connection.request(request);
  return { kind: "route", object, action: "hand over", apply };
}

/**
 * Devices and routes of flanneld. Routes over its devices go with these. If `isHandedOver`, routes
 * to peers are given to the Selvage that runs here: it keeps those that it needs and removes the
 * others.
 */
export function flannelLeftovers(
  connection: NetlinkConnection,
  network: FlannelNetwork,
  isHandedOver: boolean,
): Leftover[] {
  const links = listLinks(connection);
  const devices = links.filter(isFlannelDevice);
  const deviceIndexes = new Set(devices.map(({ index }) => index));
  const keep = (route: Route) =>
    isFlannelRoute(route, network) &&
    !route.nextHops.some(({ linkIndex }) => deviceIndexes.has(linkIndex));
  const routes = FAMILIES.filter((family) => network.networks.some((one) => one.family === family))
    .flatMap((family) => listRoutes(connection, family, { keep }));
  return [
    ...routes.map((route) => {
      const index = route.nextHops[0]?.linkIndex;
      const linkName = links.find((link) => link.index === index)?.name ?? "";
      const request = deleteRouteRequest(route, linkName);
      return isHandedOver && route.type === RTN_UNICAST
        ? handOver(connection, route, request.object, linkName)
        : removal("route", request.object, connection, request);
    }),
    ...devices.map((link) => removal("device", link.name, connection, deleteLinkRequest(link))),
  ];
}

/** The chains that flanneld makes in tables of iptables, and the comments of rules of its. */
const FLANNEL_CHAINS = ["FLANNEL-FWD", "FLANNEL-POSTRTG"];
const FLANNEL_COMMENTS = ["flanneld forward", "flanneld masq"];
const FLANNEL_TABLES: readonly TableName[] = [
  { family: 4, name: "flannel-ipv4" },
  { family: 6, name: "flannel-ipv6" },
];

function isFlannelRule({ chainName, comment, expressions }: NftRule): boolean {
  return FLANNEL_CHAINS.includes(chainName) || FLANNEL_COMMENTS.includes(comment) ||
    expressions.some((one) => one.type === "jump" && FLANNEL_CHAINS.includes(one.chainName));
}

/** Chains and rules of flanneld in one table of iptables-nft; null: there are none. */
function flannelRules(connection: NetlinkConnection, table: TableName): Leftover | null {
  const rules = listRules(connection, table).filter(isFlannelRule);
  const chains = FLANNEL_CHAINS.filter((name) => getChain(connection, table, name) !== null);
  if (rules.length === 0 && chains.length === 0) return null;
  const object = [...chains, `${rules.length} rules`].join(", ");
  return firewallRemoval("iptables rules", `${tableText(table)}: ${object}`, connection, [
    // A chain can go when nothing leads to it and nothing is in it.
    ...rules.map(deleteRuleRequest),
    ...chains.map((name) => deleteChainRequest(table, name)),
  ]);
}

/** Firewall rules of flanneld: its nftables tables, and what it has in those of iptables-nft. */
export function flannelFirewallLeftovers(connection: NetlinkConnection): Leftover[] {
  const tables = FAMILIES.flatMap((family) =>
    ["filter", "nat"].map((name): TableName => ({ family, name }))
  );
  return [
    ...tablesThere(connection, FLANNEL_TABLES),
    ...tables.flatMap((table) => flannelRules(connection, table) ?? []),
  ];
}
