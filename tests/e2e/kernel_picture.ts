/**
 * All that a host's kernel holds of links, addresses, routes, neighbours, FDB entries and firewall
 * rules, as iproute2 and nft tell it, without what changes by itself.
 */
import type { NamespaceShell } from "./namespace_shell.ts";

type Json = Record<string, unknown>;

/** A bridge's, which come and go with its ports. */
const CARRIER_FLAGS = ["LOWER_UP", "NO-CARRIER"];

/** An outer link's or a tunnel's own, by which IPv6 works at all; the kernel's to make and drop. */
function isLinkLocal(text: unknown): boolean {
  return typeof text === "string" && /^(fe80|ff00|multicast)/.test(text);
}

function linkLines(links: Json[]): string[] {
  return links.map(({ ifname, flags, mtu, address, master, linkinfo }) => {
    const { info_kind: kind, info_data: data } = (linkinfo ?? {}) as Json;
    const sorted = (flags as string[]).filter((flag) => !CARRIER_FLAGS.includes(flag)).sort();
    const device = kind === "vxlan" ? data : null;
    return JSON.stringify({ ifname, flags: sorted, mtu, address, master, kind, device });
  }).sort();
}

function addressLines(links: Json[]): string[] {
  return links.flatMap(({ ifname, addr_info: addresses }) =>
    (addresses as Json[]).filter(({ local }) => !isLinkLocal(local))
      .map(({ local, prefixlen, address }) => JSON.stringify({ ifname, local, prefixlen, address }))
  ).sort();
}

function routeLines(routes: Json[]): string[] {
  return routes.filter(({ dst }) => !isLinkLocal(dst))
    .map((route) => JSON.stringify({ ...route, metrics: undefined, pref: undefined }));
}

/** Those that stay for ever. */
function neighbourLines(neighbours: Json[]): string[] {
  return neighbours.filter(({ state }) => (state as string[]).includes("PERMANENT"))
    .map(({ dst, dev, lladdr }) => JSON.stringify({ dst, dev, lladdr })).sort();
}

function fdbLines(entries: Json[]): string[] {
  // A bridge's own entries for multicast, and those of its ports.
  return entries.filter(({ flags }) => (flags as string[]).includes("self"))
    .filter(({ mac }) => !/^(33:33|01:00)/.test(String(mac)))
    .map((entry) => JSON.stringify(entry)).sort();
}

/** What changes by itself: numbers of rules, and what counters have counted. */
const VOLATILE_KEYS = ["handle", "packets", "bytes"];

/** The order of tables says when they were made, no more; that of rules counts. */
function firewallLines({ nftables }: Json): string[] {
  const tableOf = (one: Json) => {
    const { family, table, name } = Object.values(one)[0] as Json;
    return `${family} ${table ?? name}`;
  };
  return (nftables as Json[]).filter((one) => !("metainfo" in one))
    .sort((a, b) => tableOf(a) < tableOf(b) ? -1 : tableOf(a) > tableOf(b) ? 1 : 0)
    .map((one) =>
      JSON.stringify(one, (key, value) => VOLATILE_KEYS.includes(key) ? undefined : value)
    );
}

function plainLines(things: Json[]): string[] {
  return things.map((thing) => JSON.stringify(thing));
}

/** In the order in which they are asked for. */
const PARTS: readonly [command: string, lines: (value: never) => string[]][] = [
  ["ip -j -d link", linkLines],
  ["ip -j addr", addressLines],
  ["ip -j -4 route show table all", routeLines],
  ["ip -j -6 route show table main", routeLines],
  ["ip -j neigh show nud permanent", neighbourLines],
  ["bridge -j fdb show", fdbLines],
  ["nft -j list ruleset", firewallLines],
  ["ip -j nexthop", plainLines],
  ["ip -j -4 rule", plainLines],
  ["ip -j -6 rule", plainLines],
];
const READS_MAX = 20;
const SYSCTLS = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";

/** What a script prints when nothing has changed while one of its programs read. */
async function readInPeace(shell: NamespaceShell, script: string): Promise<string> {
  for (let attempt = 1;; attempt++) {
    const text = await shell.run(script);
    if (!text.includes("Dump was interrupted") || attempt === READS_MAX) return text;
  }
}

/** One line a thing, in the kernel's order where that says something. */
export async function takePicture(shell: NamespaceShell): Promise<readonly string[]> {
  const commands = PARTS.map(([command]) => `${command}; echo`).join("\n");
  const text = await readInPeace(shell, `${commands}\n${SYSCTLS}`);
  const lines = text.split("\n").filter((line) => line !== "");
  const tables = PARTS.flatMap(([command, read], i) => {
    try {
      return read(JSON.parse(lines[i]!) as never);
    } catch (error) {
      throw new Error(`${command}: ${lines[i]}`, { cause: error });
    }
  });
  return [...tables, `forwarding ${lines.slice(PARTS.length).join(" ")}`];
}

/** What one picture has and the other has not, a line each. */
export function difference(before: readonly string[], after: readonly string[]): string {
  const missing = before.filter((line) => !after.includes(line)).map((line) => `- ${line}`);
  const extra = after.filter((line) => !before.includes(line)).map((line) => `+ ${line}`);
  return [...missing, ...extra].join("\n") || "the order";
}
