/** What this kernel can do, found by trying. */
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import { createVxlan, deleteLink, getLink, listLinks } from "../netlink/rtnetlink.ts";

const PROBE_NAME = "selvage-probe";
/** The last VNI and port, which hardly anybody has. */
const PROBE_VNI = 2 ** 24 - 1;
const PROBE_PORT = 65_535;

/**
 * Whether the kernel makes VXLAN devices: there is one, or one can be made, down and without
 * address, and is deleted again. Throws `NetlinkError` for reasons that say nothing about that,
 * such as a missing privilege.
 */
export function hasKernelVxlan(connection: NetlinkConnection): boolean {
  const known = listLinks(connection).filter(({ kind }) => kind === "vxlan");
  // A probe that was ended in between may have left its own.
  for (const link of known.filter(({ name }) => name === PROBE_NAME)) deleteLink(connection, link);
  if (known.length > 0) return true;
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
    // Someone else has the name, or the VNI.
    if (!hasErrno(error, "EEXIST")) throw error;
  }
  const made = getLink(connection, PROBE_NAME);
  if (made?.kind === "vxlan") deleteLink(connection, made);
  return true;
}
