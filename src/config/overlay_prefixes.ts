/** Which addresses the overlay's routes cover; addresses of hosts must not be among them. */
import { SelvageError } from "../errors.ts";
import { bitsOf, type IpAddress, IpPrefix } from "../net/ip.ts";
import type { NetworkConfig, SubnetRange } from "./network_config.ts";

/** The fewest prefixes that hold exactly the addresses from `first` to `last`. */
function prefixesBetween(first: IpAddress, last: IpAddress): IpPrefix[] {
  const prefixes: IpPrefix[] = [];
  let next = first;
  while (true) {
    let prefix = IpPrefix.of(next, bitsOf(next.family));
    for (let length = prefix.length - 1; length >= 0; length--) {
      const wider = IpPrefix.of(next, length);
      if (!wider.address.equals(next) || wider.last.compare(last) > 0) break;
      prefix = wider;
    }
    prefixes.push(prefix);
    if (prefix.last.compare(last) >= 0) return prefixes;
    next = prefix.last.add(1n);
  }
}

/** The prefixes of SubnetMin to SubnetMax: the network itself, if these are the defaults. */
function leasablePrefixes({ network, subnetLength, subnetMin, subnetMax }: SubnetRange) {
  const lastOf = (subnet: IpAddress) => IpPrefix.of(subnet, subnetLength).last;
  // Hosts must not have addresses in the first subnet either, although it is not leased by default.
  const isFromFirst = subnetMin.equals(lastOf(network.address).add(1n));
  return prefixesBetween(isFromFirst ? network.address : subnetMin, lastOf(subnetMax));
}

/**
 * The prefixes that are routed into the overlay: the whole network if the backend routes the whole
 * of it, else those from which subnets are leased, because each leased subnet gets a route.
 */
export function overlayPrefixes(
  { ranges }: Pick<NetworkConfig, "ranges">,
  routesWholeNetwork: boolean,
): IpPrefix[] {
  return ranges.flatMap((range) => routesWholeNetwork ? [range.network] : leasablePrefixes(range));
}

/**
 * Throws `conflict` if an address of a host's outer interface lies where the overlay's routes go:
 * packets to it, the tunnel's own among them, would be routed into the tunnel.
 */
export function checkOuterAddresses(
  config: NetworkConfig,
  addresses: readonly IpAddress[],
  routesWholeNetwork: boolean,
): void {
  for (const prefix of overlayPrefixes(config, routesWholeNetwork)) {
    const inside = addresses.find((address) => prefix.contains(address));
    if (inside === undefined) continue;
    const { network } = config.ranges.find(({ family }) => family === prefix.family)!;
    const part = prefix.equals(network) ? "" : `, in ${prefix}, from which subnets are leased`;
    const text = `the outer address ${inside} lies in the overlay's network ${network}${part}`;
    throw new SelvageError("conflict", text, {
      hint: (routesWholeNetwork
        ? "Choose a Network that does not overlap the network of any host."
        : "Choose Network, or SubnetMin and SubnetMax, so that they overlap no host's network.") +
        " --allow-network-overlap does not allow this: the host could reach no other host.",
    });
  }
}
