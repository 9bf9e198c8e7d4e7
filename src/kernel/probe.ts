/** What this kernel can do, found by trying. */
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno, NetlinkError } from "../netlink/error.ts";
import type { Link } from "../netlink/link.ts";
import { createIpipRequest, createVxlanRequest } from "../netlink/link_request.ts";
import { deleteLink, getLink, listLinks } from "../netlink/rtnetlink.ts";
import { failureText } from "./failure.ts";
import { notOursText } from "./link_diff.ts";
import { type KernelOperation, requestFor } from "./operation.ts";
import { type DesiredLink, type DesiredVxlan, isOwnDevice } from "./state.ts";

const PROBE_NAME = "selvage-probe";
/** The last VNI and port, which hardly anybody has. */
const PROBE_VNI = 2 ** 24 - 1;
const PROBE_PORT = 65_535;

const VXLAN = {
  name: PROBE_NAME,
  vni: PROBE_VNI,
  port: PROBE_PORT,
  linkIndex: null,
  local: null,
  isLearning: false,
  isProxy: false,
  isL2Miss: false,
  isGbp: false,
} as const;
const IPIP = { name: PROBE_NAME, linkIndex: null, local: null } as const;

/** Makes a device of the kind, down and without address, and deletes it. Throws `NetlinkError`. */
export function probeDevice(connection: NetlinkConnection, kind: "vxlan" | "ipip"): void {
  const request = kind === "vxlan" ? createVxlanRequest(VXLAN) : createIpipRequest(IPIP);
  try {
    connection.request(request);
  } catch (error) {
    // There is one: left by a probe that was ended in between, or someone else's.
    if (!hasErrno(error, "EEXIST")) throw error;
  }
  const made = getLink(connection, PROBE_NAME);
  if (made?.kind === kind) deleteLink(connection, made);
}

/**
 * Whether the kernel makes VXLAN devices. Throws `NetlinkError` for reasons that say nothing about
 * that, such as a missing privilege.
 */
export function hasKernelVxlan(connection: NetlinkConnection): boolean {
  // Nothing is made where one shows it: a restart changes nothing.
  if (listLinks(connection).some(({ kind }) => kind === "vxlan")) return true;
  try {
    probeDevice(connection, "vxlan");
    return true;
  } catch (error) {
    if (hasErrno(error, "EOPNOTSUPP", "EAFNOSUPPORT", "EPROTONOSUPPORT")) return false;
    throw error;
  }
}

/** Whether a device of ours has what this one needs: the reconciler replaces or changes it. */
function hasPlace(desired: DesiredLink, links: readonly Link[]): boolean {
  const { vni, port } = desired as Partial<DesiredVxlan>;
  return links.some(({ name, kind, vxlan }) =>
    isOwnDevice(name, kind) &&
    (name === desired.name || (vxlan !== null && vxlan.vni === vni && vxlan.port === port))
  );
}

/**
 * Why this device of a plan cannot be made, as a sentence with what to do; null: it can be, or one
 * of ours stands in its place. The device is made, set up, which is when the kernel opens its port,
 * and deleted. Throws `NetlinkError` only if the kernel cannot be read.
 */
export function whyNotMade(connection: NetlinkConnection, desired: DesiredLink): string | null {
  const links = listLinks(connection);
  const named = links.find(({ name }) => name === desired.name);
  if (desired.kind === "tun" || hasPlace(desired, links)) return null;
  if (named !== undefined) return notOursText(desired, named);
  let operation: KernelOperation = { type: "create_link", desired };
  let made: Link | null = null;
  try {
    connection.request(requestFor(operation, new Map()));
    made = getLink(connection, desired.name);
    if (made === null) return null;
    operation = { type: "set_link", link: made, change: { isUp: true } };
    connection.request(requestFor(operation, new Map()));
    return null;
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error;
    return failureText(operation, error, links);
  } finally {
    if (made !== null) deleteLink(connection, made);
  }
}
