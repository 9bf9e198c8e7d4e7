/**
 * The values under `/proc/sys` that every device of ours has. Strangers can make the frames that
 * come out of a tunnel: none of these may configure this host, change its routes, or fill its
 * tables.
 */
import type { Family } from "../net/ip.ts";
import type { ReconcileResult } from "./problem.ts";
import type { DesiredLink, DesiredSysctl } from "./state.ts";
import { reconcileSysctls } from "./sysctl.ts";

/** The host's switch that all devices' `forwarding` follow when it changes. */
export const IPV4_FORWARDING = "net/ipv4/ip_forward";

/**
 * The kernel combines most of these with the value under `conf/all` (`include/linux/inetdevice.h`):
 * `accept_redirects` of a device that forwards and `accept_source_route` need both, so ours
 * decides. Of `arp_ignore`, `rp_filter` and `arp_accept` the larger counts. Of `send_redirects`,
 * `proxy_arp`, `route_localnet` and `drop_gratuitous_arp` either is enough: an operator who
 * switches one on for all devices means ours too.
 */
const IPV4: Readonly<Record<string, string>> = {
  accept_redirects: "0",
  secure_redirects: "0",
  // All peers look like neighbours on one link, and each must go on sending to us.
  send_redirects: "0",
  accept_source_route: "0",
  route_localnet: "0",
  proxy_arp: "0",
  proxy_arp_pvlan: "0",
  // No peer asks for our addresses, because every host has its peers' MACs from their leases. Each
  // answered question would make a neighbour entry for the sender, thousands of them in a flood.
  arp_ignore: "8",
  arp_accept: "0",
  drop_gratuitous_arp: "1",
  // Loose. Strict would drop packets that come by another way than answers go, as with
  // DirectRouting. Because 2 is the larger value, it also counts if a distribution sets 1 for all
  // devices.
  rp_filter: "2",
};

/** Those of an IPv6 device that its own value decides on, or the smaller of both. */
const IPV6: Readonly<Record<string, string>> = {
  accept_ra: "0",
  autoconf: "0",
  accept_redirects: "0",
  accept_source_route: "0",
  proxy_ndp: "0",
  drop_unsolicited_na: "1",
  accept_untracked_na: "0",
};

function familyOf(link: DesiredLink): Family {
  return link.kind === "tun" ? link.family : link.local.family;
}

/**
 * What a device of ours must have, under the name that it has now. A device of IPv4 has no IPv6 at
 * all. A value that the kernel does not know needs none: older kernels lack some, a kernel without
 * IPv6 or a device with an MTU below IPv6's smallest lacks all of IPv6's.
 */
export function deviceSysctls(link: DesiredLink, name: string): DesiredSysctl[] {
  const hasIpv6 = familyOf(link) === 6;
  const values = [
    ...Object.entries(IPV4).map(([key, value]) => [`ipv4/conf/${name}/${key}`, value] as const),
    // First no router may be believed; only then IPv6 may be switched on.
    ...Object.entries({ ...IPV6, disable_ipv6: hasIpv6 ? "0" : "1" })
      .map(([key, value]) => [`ipv6/conf/${name}/${key}`, value] as const),
  ];
  return values.map(([path, value]) => ({ path: `net/${path}`, value, isSet: true }));
}

/** Sets the values of one device as they must be; all that cannot be set is one problem. */
export function reconcileDeviceSysctls(
  link: DesiredLink,
  name: string,
): ReconcileResult & { readonly changes: readonly string[] } {
  const { changes, changeCount, problems } = reconcileSysctls(deviceSysctls(link, name));
  if (problems.length === 0) return { changes, changeCount, problems };
  const rest = problems.length > 1 ? ` (and ${problems.length - 1} more values)` : "";
  const text = `device ${name} is not protected against forged messages from the tunnel: ` +
    `${problems[0]}${rest}`;
  return { changes, changeCount, problems: [text] };
}

/**
 * The same for the forwarding of our IPv4 devices, which may differ from the host's: a new device
 * takes it from `conf/default`. It is set where `--set-sysctls` lets us set the host's. IPv6 knows
 * no such switch a device.
 */
export function forwardingSysctls(
  links: readonly DesiredLink[],
  hostSysctls: readonly DesiredSysctl[],
): DesiredSysctl[] {
  const host = hostSysctls.find(({ path }) => path === IPV4_FORWARDING);
  if (host === undefined) return [];
  return links.filter((link) => familyOf(link) === 4)
    .map(({ name }) => ({ ...host, path: `net/ipv4/conf/${name}/forwarding` }));
}
