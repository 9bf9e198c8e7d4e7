/** Texts about operations that the kernel refused, which say what is in the way and what to do. */
import { hasErrno, type NetlinkError } from "../netlink/error.ts";
import { IpAddress } from "../net/ip.ts";
import type { Link } from "../netlink/link.ts";
import { recentPortHolderText } from "../port_holder.ts";
import type { KernelOperation } from "./operation.ts";
import type { DesiredIpip, DesiredVxlan } from "./state.ts";

const ANY = IpAddress.parse("0.0.0.0");

/** What a kernel says that cannot make devices of a kind. */
const NO_SUCH_KIND = ["EOPNOTSUPP", "EAFNOSUPPORT", "EPROTONOSUPPORT"] as const;

/** The kernel tells devices apart by both. */
function vxlanInUse({ name, vni, port }: DesiredVxlan, links: readonly Link[]): string | null {
  const other = links.find(({ vxlan }) => vxlan?.vni === vni && vxlan.port === port);
  const advice = "set Backend.VNI or Backend.Port to another";
  if (other !== undefined) {
    // What flanneld leaves when it ends.
    const remove = /^flannel(-v6)?\.\d+$/.test(other.name)
      ? "end flanneld and remove its devices (selvage clean --flannel)"
      : "remove it";
    return `VNI ${vni} on port ${port} is in use by device ${other.name}; ${remove}, or ${advice}`;
  }
  if (links.some((link) => link.name === name)) return null;
  // The kernel keeps both for a device where it was made, also when it has been moved.
  return `VNI ${vni} on port ${port} is in use by a device that was made here and moved to ` +
    `another network namespace, perhaps ${name} itself; delete it there (ip -n NAMESPACE link ` +
    `delete ${name}), or ${advice}`;
}

/** The kernel has one tunnel for a local and a remote address, and the interface it is bound to. */
function ipipInUse({ local }: DesiredIpip, links: readonly Link[]): string | null {
  const other = links.find(({ ipip }) =>
    ipip !== null && ipip.remote === null && (ipip.local?.equals(local) ?? false)
  );
  if (other === undefined) return null;
  const remove = other.name === "flannel.ipip"
    ? "end flanneld and remove its devices (selvage clean --flannel)"
    : "remove it";
  return `device ${other.name} already has the tunnel from ${local} to all hosts; ${remove}`;
}

/** One sentence. `links` are those of the host when the operation was thought of. */
export function failureText(
  operation: KernelOperation,
  error: NetlinkError,
  links: readonly Link[],
): string {
  if (operation.type === "create_link" && operation.desired.kind === "vxlan") {
    const text = hasErrno(error, "EEXIST") ? vxlanInUse(operation.desired, links) : null;
    if (text !== null) return text;
  }
  if (operation.type === "create_link" && operation.desired.kind === "ipip") {
    const text = hasErrno(error, "EEXIST") ? ipipInUse(operation.desired, links) : null;
    if (text !== null) return text;
  }
  if (operation.type === "create_link" && hasErrno(error, ...NO_SUCH_KIND)) {
    return `${error.message}; load the kernel module (modprobe ${operation.desired.kind}), or ` +
      "choose another backend";
  }
  if (operation.type === "set_link" && hasErrno(error, "EADDRINUSE")) {
    const port = operation.link.vxlan?.port;
    // The kernel opens it for all addresses.
    const holder = port === undefined ? "" : recentPortHolderText("udp", ANY, port);
    return `UDP port ${port} is in use${holder || " by another program"}, so device ` +
      `${operation.link.name} cannot be set up; stop that program, or set Backend.Port to ` +
      "another port";
  }
  return error.message;
}
