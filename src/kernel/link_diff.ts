/** What is to be done about our devices. Pure. */
import type { IpAddress } from "../net/ip.ts";
import type { Link } from "../netlink/link.ts";
import type { LinkChange } from "../netlink/link_request.ts";
import type { KernelOperation } from "./operation.ts";
import { type DesiredIpip, type DesiredLink, type DesiredVxlan, isOwnDevice } from "./state.ts";

export interface LinkDiff {
  readonly operations: readonly KernelOperation[];
  readonly problems: readonly string[];
  /** The links of the plan that are there and as they must have been made, by the plan's names. */
  readonly ours: ReadonlyMap<string, Link>;
}

function isSameAddress(a: IpAddress | null, b: IpAddress | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

function isAsMadeVxlan({ vxlan }: Link, desired: DesiredVxlan): boolean {
  return vxlan !== null && vxlan.vni === desired.vni && vxlan.port === desired.port &&
    vxlan.linkIndex === desired.outerLinkIndex && isSameAddress(vxlan.local, desired.local) &&
    vxlan.remote === null && vxlan.isLearning === desired.isLearning &&
    vxlan.isGbp === desired.isGbp && vxlan.isProxy === desired.isProxy &&
    vxlan.isL2Miss === desired.isL2Miss && !vxlan.isL3Miss && !vxlan.isRouteShortCircuit &&
    !vxlan.isCollectMetadata;
}

function isAsMadeIpip({ ipip }: Link, desired: DesiredIpip): boolean {
  return ipip !== null && ipip.linkIndex === desired.outerLinkIndex &&
    isSameAddress(ipip.local, desired.local) && ipip.remote === null;
}

/** Whether the device has what cannot be changed of one that is there. */
function isAsMade(link: Link, desired: DesiredLink): boolean {
  switch (desired.kind) {
    case "tun":
      return true;
    case "vxlan":
      return isAsMadeVxlan(link, desired);
    case "ipip":
      return isAsMadeIpip(link, desired);
  }
}

/**
 * Packets that may wait in a TUN until its loop reads them. The kernel's 500 are too few for a
 * burst: a VXLAN device inside the overlay cuts 64 KiB into 45 packets at once, over and over.
 */
export const TUN_QUEUE_LENGTH = 2000;

/** What to change of a device; empty if it is as desired. */
function changeOf(link: Link, desired: DesiredLink): LinkChange {
  const isMacOurs = desired.kind === "vxlan" && link.macAddress !== `${desired.macAddress}`;
  const isQueueOther = desired.kind === "tun" && link.queueLength !== null &&
    link.queueLength !== TUN_QUEUE_LENGTH;
  const lacksArp = desired.kind === "vxlan" && !link.hasArp;
  return {
    ...(link.name === desired.name ? {} : { newName: desired.name }),
    ...(link.mtu_bytes === desired.mtu_bytes ? {} : { mtu_bytes: desired.mtu_bytes }),
    ...(isQueueOther ? { queueLength: TUN_QUEUE_LENGTH } : {}),
    ...(isMacOurs ? { macAddress: `${desired.macAddress}` } : {}),
    ...(link.masterIndex === null ? {} : { masterIndex: null }),
    ...(lacksArp ? { hasArp: true } : {}),
    ...(link.isUp ? {} : { isUp: true }),
  };
}

/** What to say of a device that has the name of one of ours and is of another kind. */
export function notOursText({ name, kind }: DesiredLink, actual: Link): string {
  return `device ${name} is not ours: it is ${actual.kind ?? "hardware"}, not ${kind}; remove or ` +
    "rename it";
}

/** The device that the plan means: by its name, or renamed by another hand. */
function findLink(
  { name, kind }: DesiredLink,
  links: readonly Link[],
  linkIndexes: ReadonlyMap<string, number>,
): Link | undefined {
  const named = links.find((link) => link.name === name);
  if (named !== undefined) return named;
  const index = linkIndexes.get(name);
  return links.find((link) => link.index === index && link.kind === kind);
}

/**
 * Compares the devices of the plan with those of the kernel. `linkIndexes` says where those of the
 * plan were last seen, by their names. A device of our name and another kind is nobody's of ours: a
 * problem, and left alone. What earlier plans had made and this one has not goes.
 */
export function diffLinks(
  desired: readonly DesiredLink[],
  links: readonly Link[],
  linkIndexes: ReadonlyMap<string, number>,
): LinkDiff {
  const operations: KernelOperation[] = [];
  const problems: string[] = [];
  const ours = new Map<string, Link>();
  const found = new Set<Link>();
  const create = (entry: DesiredLink) => {
    if (entry.kind === "tun") problems.push(`tun device ${entry.name} is missing`);
    else operations.push({ type: "create_link", desired: entry });
  };
  for (const entry of desired) {
    const link = findLink(entry, links, linkIndexes);
    if (link === undefined) {
      create(entry);
      continue;
    }
    found.add(link);
    if (link.kind !== entry.kind) {
      problems.push(notOursText(entry, link));
    } else if (!isAsMade(link, entry)) {
      operations.push({ type: "delete_link", link });
      create(entry);
    } else {
      ours.set(entry.name, link);
      const change = changeOf(link, entry);
      if (Object.keys(change).length > 0) operations.push({ type: "set_link", link, change });
    }
  }
  const stale = links.filter((link) => isOwnDevice(link.name, link.kind) && !found.has(link))
    .map((link): KernelOperation => ({ type: "delete_link", link }));
  // Stale ones first: they may hold the VNI and port that a new one is to have.
  return { operations: [...stale, ...operations], problems, ours };
}
