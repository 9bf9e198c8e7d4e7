/** Looks at this host. Nothing is changed, everything is bounded, and no probe throws. */
import { accessSync, constants } from "node:fs";
import { release } from "node:os";
import { probeIoUring } from "../../ffi/host.ts";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { readKeptLink } from "../agent/kept_outer_link.ts";
import { judgeNetwork } from "../agent/network.ts";
import { type Capability, hasCapability } from "../agent/preflight.ts";
import { vitalAddresses } from "../agent/vital_addresses.ts";
import { portOption } from "../backend/backend_options.ts";
import { ANY_HOST, configWarnings, selectBackend } from "../backend/select.ts";
import { UDP_DEFAULT_PORT } from "../backend/udp.ts";
import { readVxlanOptions, VXLAN_DEFAULT_PORT } from "../backend/vxlan_options.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { CONFIG_SIZE_MAX_BYTES, parseNetworkConfig } from "../config/parse_network_config.ts";
import { errorText, hintOf } from "../errors.ts";
import { readFileBounded } from "../files.ts";
import { chooseOuterLink, type OuterLink } from "../kernel/outer_link.ts";
import { listSurroundings, type Surrounding } from "../kernel/surroundings.ts";
import { isOwnDevice, isOwnLinkName } from "../kernel/state.ts";
import type { Family } from "../net/ip.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { Link } from "../netlink/link.ts";
import { listLinks } from "../netlink/rtnetlink.ts";
import { findClashes } from "./clashes.ts";
import { probeDevices, probeUdpOffloads } from "./devices.ts";
import type { ConfigFacts, ForwardingFacts, HostFacts } from "./facts.ts";
import { probeEtcd } from "./etcd.ts";
import { probeLegacyDrops, probeNftables } from "./nftables.ts";
import type { CheckOptions } from "./options.ts";
import { probeClock, probePlaces } from "./places.ts";
import { probePorts, probeRunning, type UdpPort } from "./ports.ts";
import { attempt, valueOr } from "./trial.ts";

const CAPABILITIES: readonly Capability[] = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"];
const DEFAULT_PORTS = { udp: UDP_DEFAULT_PORT, vxlan: VXLAN_DEFAULT_PORT } as const;

/** A sysctl's number by its path below `/proc/sys`; null if there is none. */
function sysctl(path: string): number | null {
  const text = valueOr(() => readFileBounded(`/proc/sys/${path}`).trim(), "");
  return /^-?\d+$/.test(text) ? Number(text) : null;
}

function forwarding(path: string): ForwardingFacts | null {
  const value = sysctl(path);
  if (value === null) return null;
  const write = attempt(() => accessSync(`/proc/sys/${path}`, constants.W_OK));
  return { isOn: value !== 0, isWritable: write.state === "works" };
}

/** The stricter of the two counts (`ip-sysctl.rst`). */
function rpFilter(linkName: string): number | null {
  const values = ["all", linkName].map((name) => sysctl(`net/ipv4/conf/${name}/rp_filter`));
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}

interface LinkFacts extends Pick<HostFacts, "link" | "ownDevices" | "vxlanDevices" | "clashes"> {
  /** Empty where they are not to count, or cannot be read. */
  readonly surroundings: readonly Surrounding[];
}

/** A device of our name may be of any kind; those of ours are not. */
function isOurs({ name, kind }: Link): boolean {
  return isOwnDevice(name, kind) || (kind === "tun" && isOwnLinkName(name));
}

/** As `selvage run` does: a node is known by its IPv4 address, whatever the network carries. */
function chooseLink(
  connection: NetlinkConnection,
  { link, stateDir }: CheckOptions,
  families: readonly Family[],
): HostFacts["link"] {
  try {
    const all = [...new Set<Family>([4, ...families])];
    return chooseOuterLink(connection, link, all, readKeptLink(stateDir, link));
  } catch (error) {
    const hint = hintOf(error) || "Give this host an address, or set --iface.";
    return { why: errorText(error), hint };
  }
}

function readSurroundings(connection: NetlinkConnection, options: CheckOptions) {
  if (options.allowsNetworkOverlap) return [];
  const etcdEndpoints = options.etcd?.endpoints.split(",") ?? [];
  return listSurroundings(connection, vitalAddresses({ registry: [], etcdEndpoints }));
}

function probeLinks(options: CheckOptions, config: NetworkConfig | null): LinkFacts {
  const families = config?.ranges.map(({ family }) => family) ?? [];
  let connection: NetlinkConnection | null = null;
  try {
    connection = new NetlinkConnection(new NetlinkRouteSocket());
    const links = listLinks(connection);
    return {
      link: chooseLink(connection, options, families),
      ownDevices: links.filter(isOurs).map(({ name }) => name),
      vxlanDevices: links.filter(({ kind }) => kind === "vxlan").map(({ name }) => name),
      clashes: findClashes(config, links),
      surroundings: readSurroundings(connection, options),
    };
  } catch (error) {
    const link = { why: errorText(error), hint: "netlink must be allowed for this process." };
    return { link, ownDevices: [], vxlanDevices: [], clashes: [], surroundings: [] };
  } finally {
    connection?.close();
  }
}

/** Bad values are the backend's own to report. */
function datapathOf(config: NetworkConfig): string | null {
  if (config.backend.type !== "vxlan") return null;
  return valueOr(() => readVxlanOptions(config).datapath, "auto");
}

function probeConfig(
  { where, config }: { where: string; config: NetworkConfig },
  link: OuterLink | null,
  surroundings: readonly Surrounding[],
): ConfigFacts {
  const facts = {
    where,
    type: config.backend.type,
    datapath: datapathOf(config),
    families: config.ranges.map(({ family }) => family),
    networks: config.ranges.map(({ network }) => network),
    warnings: configWarnings(config),
  };
  try {
    if (link === null) {
      selectBackend(config, ANY_HOST).check(config, null);
      return { ...facts, mtu_bytes: null, refusal: null };
    }
    const { backend } = judgeNetwork(config, link, {
      ...ANY_HOST,
      surroundings: () => surroundings,
    });
    return { ...facts, mtu_bytes: backend.mtu_bytes(config, link), refusal: null };
  } catch (error) {
    const refusal = { why: errorText(error), hint: hintOf(error) };
    return { ...facts, mtu_bytes: null, refusal };
  }
}

/** The ports that the backends in question listen on. */
function udpPortsOf(config: NetworkConfig | null): UdpPort[] {
  const all = ["udp", "vxlan"] as const;
  return all.filter((use) => config === null || config.backend.type === use).map((use) => ({
    use,
    // A port that is none was the backend's to report.
    port: config === null
      ? DEFAULT_PORTS[use]
      : valueOr(() => portOption(config, DEFAULT_PORTS[use]), DEFAULT_PORTS[use]),
    isChosen: config !== null,
  }));
}

/** The configuration to go by, and where it is from; null: there is none. */
function readConfig({ netConfigFile: file, etcd }: CheckOptions) {
  const where = file ?? etcd?.configKey ?? "";
  const text = file === null ? etcd?.configText : readFileBounded(file, CONFIG_SIZE_MAX_BYTES);
  if (text === undefined || text === null) return null;
  return { where, config: parseNetworkConfig(text, where) };
}

/**
 * Looks at everything. Rejects only if the network configuration cannot be read or breaks its
 * rules, as `selvage config check` does.
 */
export async function gatherFacts(options: CheckOptions): Promise<HostFacts> {
  const { etcd } = options;
  const given = readConfig(options);
  const config = given?.config ?? null;
  const { surroundings, ...links } = probeLinks(options, config);
  const link = "name" in links.link ? links.link : null;
  const isV6Off = sysctl("net/ipv6/conf/all/disable_ipv6") !== 0;
  return {
    kernelRelease: release(),
    capabilities: CAPABILITIES.filter((name) => valueOr(() => hasCapability(name), false)),
    ...probeDevices(),
    udpOffloads: probeUdpOffloads(),
    ...probeNftables(),
    legacyDrops: probeLegacyDrops(config?.ranges.map(({ network }) => network) ?? []),
    ioUring: attempt(probeIoUring),
    forwarding: {
      4: forwarding("net/ipv4/ip_forward"),
      6: isV6Off ? null : forwarding("net/ipv6/conf/all/forwarding"),
    },
    rpFilter: link === null ? null : rpFilter(link.name),
    gcThresh3: sysctl("net/ipv4/neigh/default/gc_thresh3"),
    ...links,
    isRunning: await probeRunning(options.apiSocket),
    ports: await probePorts(udpPortsOf(config), link, options),
    places: probePlaces(options),
    clock: probeClock(options.stateDir),
    config: given && probeConfig(given, link, surroundings),
    etcd: etcd === null ? null : probeEtcd(etcd, config, link),
  };
}
