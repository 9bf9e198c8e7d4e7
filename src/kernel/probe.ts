/** What this kernel can do, found by trying. */
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import { createIpipRequest, createVxlanRequest } from "../netlink/link_request.ts";
import { deleteLink, getLink, listLinks } from "../netlink/rtnetlink.ts";

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
