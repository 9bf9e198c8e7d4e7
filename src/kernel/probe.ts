/** What this kernel can do, found by trying. */
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import { createVxlan, deleteLink, getLink } from "../netlink/rtnetlink.ts";

const PROBE_NAME = "selvage-probe";
/** The last VNI and port, which hardly anybody has. */
const PROBE_VNI = 2 ** 24 - 1;
const PROBE_PORT = 65_535;

/**
 * Whether the kernel makes VXLAN devices: makes one, down and without address, and deletes it.
 * Throws `NetlinkError` for reasons that say nothing about that, such as a missing privilege.
 */
export function hasKernelVxlan(connection: NetlinkConnection): boolean {
  try {
    createVxlan(connection, {
      name: PROBE_NAME,
      vni: PROBE_VNI,
      port: PROBE_PORT,
      linkIndex: null,
      local: null,
      isLearning: false,
      isProxy: false,
      isL2Miss: false,
      isGbp: false,
    });
  } catch (error) {
    if (hasErrno(error, "EOPNOTSUPP", "EAFNOSUPPORT", "EPROTONOSUPPORT")) return false;
    // There is one: left by a probe that was ended in between, or someone else's.
    if (!hasErrno(error, "EEXIST")) throw error;
  }
  const made = getLink(connection, PROBE_NAME);
  if (made?.kind === "vxlan") deleteLink(connection, made);
  return true;
}
