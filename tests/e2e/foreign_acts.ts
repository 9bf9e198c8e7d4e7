/** What a foreign hand may do to what is ours in a host's kernel: scripts for a shell. */

/** Our device and its one peer, of one family. */
export interface VxlanTarget {
  readonly family: 4 | 6;
  readonly device: string;
  /** Of the device, with its length. */
  readonly address: string;
  /** The peer's inner address, its VTEP's MAC, and an address behind it. */
  readonly gateway: string;
  readonly behind: string;
  readonly macAddress: string;
  /** The peer's outer address, and one that nobody has. */
  readonly outer: string;
  readonly nobody: string;
}

export interface RouteTarget {
  readonly family: 4 | 6;
  readonly peerSubnet: string;
  /** An address that no host has, on the outer link. */
  readonly nobody: string;
  /** A prefix of the network that no peer has. */
  readonly stray: string;
}

const OTHER_MAC = "02:00:5e:10:00:99";
/** A bridge that was there before. */
export const FOREIGN_BRIDGE = "br9";

export function routeActs({ family, peerSubnet, nobody, stray }: RouteTarget): string[] {
  const route = `ip -${family} route`;
  return [
    `${route} del ${peerSubnet}`,
    // iproute2's own flush knows no routes that name nexthop objects.
    `${route} show proto 83 | sed 's/^unreachable //' | ` +
    `while read -r to _; do ${route} del "$to" proto 83; done`,
    "ip nexthop flush proto 83 >/dev/null",
    "ip nexthop flush >/dev/null",
    `${route} replace ${peerSubnet} via ${nobody} dev eth0`,
    `${route} replace ${peerSubnet} via ${nobody} dev eth0 proto 83`,
    `${route} replace ${peerSubnet} dev ${FOREIGN_BRIDGE} proto static`,
    `${route} append ${peerSubnet} via ${nobody} dev eth0 proto 83`,
    `${route} replace blackhole ${peerSubnet} proto 83`,
    // Who is first, the other hand or ours, does not matter.
    `${route} del ${peerSubnet}; ${route} add unreachable ${peerSubnet} 2>/dev/null`,
    `${route} add ${stray} via ${nobody} dev eth0 proto 83`,
  ];
}

/** Nexthop objects where there are none of ours: few IPv4 routes name their gateways themselves. */
export function nexthopActs({ peerSubnet, nobody }: RouteTarget): string[] {
  const add = `ip nexthop add id 4242 via ${nobody} dev eth0 proto 83`;
  // Who is first, the other hand or ours, which deletes it, does not matter.
  const use = `ip -4 route replace ${peerSubnet} nhid 4242 proto 83 2>/dev/null`;
  return [add, `${add}; ${use}`, `${add}; ${use}; ip nexthop del id 4242 2>/dev/null`];
}

function neighbourActs({ family, device, gateway, behind }: VxlanTarget): string[] {
  const of = `dev ${device}`;
  return [
    `ip neigh del ${gateway} ${of}`,
    `ip -${family} neigh flush ${of} nud permanent`,
    `ip neigh replace ${gateway} lladdr ${OTHER_MAC} ${of} nud permanent`,
    `ip neigh replace ${gateway} lladdr ${OTHER_MAC} ${of} nud reachable`,
    `ip neigh replace ${gateway} lladdr ${OTHER_MAC} ${of} nud stale`,
    `ip neigh add ${behind} lladdr ${OTHER_MAC} ${of} nud permanent`,
  ];
}

function fdbActs({ device, macAddress, outer, nobody }: VxlanTarget): string[] {
  const of = `dev ${device}`;
  return [
    `bridge fdb del ${macAddress} ${of} dst ${outer} self`,
    `bridge fdb replace ${macAddress} ${of} dst ${nobody} self permanent`,
    `bridge fdb replace ${macAddress} ${of} dst ${outer} port 4444 self permanent`,
    `bridge fdb append ${macAddress} ${of} dst ${nobody} self permanent`,
    `bridge fdb add ${OTHER_MAC} ${of} dst ${nobody} self permanent`,
    `bridge fdb append 00:00:00:00:00:00 ${of} dst ${nobody} self permanent`,
  ];
}

function deviceActs({ family, device, address, nobody }: VxlanTarget): string[] {
  const set = `ip link set ${device}`;
  const [more, noDad] = family === 4 ? ["192.0.2.1/24", ""] : ["2001:db8:77::1/64", " nodad"];
  const other = `type vxlan id 77 dstport 4790 local ${nobody} dev eth0`;
  return [
    `${set} down`,
    `${set} mtu 1290`,
    `${set} address ${OTHER_MAC}`,
    `${set} name renamed0`,
    `${set} arp off`,
    `${set} master ${FOREIGN_BRIDGE}`,
    `${set} down; ${set} name renamed0`,
    `${set} type vxlan id 1 learning`,
    `ip link del ${device}`,
    `ip link del ${device}; ip link add ${device} ${other} 2>/dev/null`,
    `ip -${family} addr flush dev ${device}`,
    `ip -${family} addr del ${address} dev ${device}`,
    `ip -${family} addr add ${more} dev ${device}${noDad}`,
  ];
}

export function vxlanActs(target: VxlanTarget): string[] {
  return [...deviceActs(target), ...neighbourActs(target), ...fdbActs(target)];
}

/** Of both families where there is IPv6. */
export function firewallActs(hasV6: boolean): string[] {
  const ofFamily = (family: string) => [
    `nft flush table ${family} selvage`,
    `nft delete table ${family} selvage`,
    `nft flush chain ${family} selvage postrouting`,
    `nft add rule ${family} selvage-guard forward drop`,
    `nft insert rule ${family} selvage postrouting counter accept`,
    `nft add chain ${family} selvage stray`,
    `nft 'chain ${family} selvage-guard forward { policy drop; }'`,
  ];
  return [...ofFamily("ip"), ...hasV6 ? ofFamily("ip6") : [], "nft flush ruleset"];
}

/** What befalls the outer interface for a moment; whoever owns it puts it right himself. */
export function outerLinkActs(address: string, gateway: string, v6: string | null): string[] {
  const back = `ip route add default via ${gateway} dev eth0 proto static`;
  const backV6 = v6 === null ? "" : `; ip -6 addr add ${v6} dev eth0 nodad`;
  return [
    `ip addr del ${address} dev eth0; ip addr add ${address} dev eth0; ${back}`,
    `ip link set eth0 down; ip link set eth0 up; ${back}${backV6}`,
  ];
}

export function sysctlActs(hasV6: boolean): string[] {
  return [
    "echo 0 >/proc/sys/net/ipv4/ip_forward",
    ...hasV6 ? ["echo 0 >/proc/sys/net/ipv6/conf/all/forwarding"] : [],
  ];
}
