/**
 * The demo's network, made over netlink in namespaces that nobody else can see:
 *
 *     container 1          host 1                switch               host 2        container 2
 *     eth0 ----------- cni0 | selvage0 | eth0 ---- sw0 ---- eth0 | selvage0 | cni0 ----- eth0
 *     .2            .1 of the host's subnet   198.18.0.N                                  .2
 *
 * The namespaces are held by descriptors alone: they end with this process, whatever becomes of it.
 */
import { existsSync, writeFileSync } from "node:fs";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, createNetns, type Netns, withNetns } from "../../ffi/netns.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { NewVeth } from "../netlink/link_request.ts";
import type { Link } from "../netlink/link.ts";
import * as rtnetlink from "../netlink/rtnetlink.ts";
import { SelvageError } from "../errors.ts";
import { pause } from "../retry.ts";

/** RFC 2544's network for tests between devices: on nobody's real network. */
const UNDERLAY = IpPrefix.parse("198.18.0.0/24");
const SWITCH = "sw0";
const CONTAINER_BRIDGE = "cni0";
/** `linux/rtnetlink.h`: a route set up by an administrator, here the demo. */
const RTPROT_STATIC = 4;
const DEFAULT_ROUTE = IpPrefix.parse("0.0.0.0/0");
const UP_POLL_MS = 1;
const UP_MAX_MS = 5000;

/** Runs `work` with a netlink connection of the namespace. */
function withConnection<T>(netns: Netns, work: (connection: NetlinkConnection) => T): T {
  const socket = withNetns(netns, () => new NetlinkRouteSocket());
  try {
    return work(new NetlinkConnection(socket));
  } finally {
    socket.close();
  }
}

function requireLink(connection: NetlinkConnection, name: string): Link {
  const link = rtnetlink.getLink(connection, name);
  if (link !== null) return link;
  throw new SelvageError("internal", `the demo's link ${name} is gone`);
}

function setUp(connection: NetlinkConnection, name: string, masterName?: string): void {
  const link = requireLink(connection, name);
  const master = masterName === undefined ? {} : {
    masterIndex: requireLink(connection, masterName).index,
  };
  rtnetlink.setLink(connection, link, { isUp: true, ...master });
}

/**
 * Waits until the links carry packets. A link that was set up drops what is sent until the kernel
 * has dealt with its carrier, which it does by and by (`net/core/link_watch.c`).
 */
async function untilUp(netns: Netns, ...names: string[]): Promise<void> {
  const signal = AbortSignal.timeout(UP_MAX_MS);
  const isUp = (connection: NetlinkConnection) =>
    names.every((name) => requireLink(connection, name).operState === "up");
  while (!withConnection(netns, isUp)) {
    if (signal.aborted) {
      throw new SelvageError("internal", `the demo's links ${names.join(", ")} do not come up`);
    }
    await pause(UP_POLL_MS, signal);
  }
}

function giveAddress(
  connection: NetlinkConnection,
  linkName: string,
  address: IpAddress,
  prefixLength: number,
): void {
  const linkIndex = requireLink(connection, linkName).index;
  rtnetlink.addAddress(connection, { linkIndex, linkName, address, prefixLength });
}

/** Makes a veth in the connection's namespace whose far end is born in another. */
function createVeth(connection: NetlinkConnection, veth: NewVeth): void {
  rtnetlink.createVeth(connection, veth);
  setUp(connection, veth.name);
}

/** The namespaces of one host and its container. */
export interface HostNetwork {
  readonly name: string;
  readonly host: Netns;
  readonly container: Netns;
  readonly outerAddress: IpAddress;
}

/** Called in a namespace: the host may have IPv6 off for new ones (`ipv6.disable_ipv6=1`). */
export function switchIpv6On(): void {
  for (const name of ["all", "default"]) {
    const path = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
    if (existsSync(path)) writeFileSync(path, "0");
  }
}

export class Topology {
  readonly #switch: Netns;
  readonly #open: Netns[] = [];
  readonly hosts: HostNetwork[] = [];

  /** Makes the switch and this many hosts. Throws, with nothing left, if that cannot be done. */
  constructor(hostCount: number) {
    try {
      this.#switch = this.#create();
      withConnection(this.#switch, (connection) => {
        rtnetlink.createBridge(connection, { name: SWITCH });
        setUp(connection, SWITCH);
      });
      for (let number = 1; number <= hostCount; number++) this.hosts.push(this.#addHost(number));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #create(): Netns {
    const netns = createNetns();
    this.#open.push(netns);
    withNetns(netns, switchIpv6On);
    withConnection(netns, (connection) => setUp(connection, "lo"));
    return netns;
  }

  #addHost(number: number): HostNetwork {
    const host = this.#create();
    const outerAddress = UNDERLAY.address.add(BigInt(number));
    const port = `port${number}`;
    withConnection(host, (connection) => {
      const peer = { name: port, netnsFd: this.#switch.fd };
      createVeth(connection, { name: "eth0", peer });
      giveAddress(connection, "eth0", outerAddress, UNDERLAY.length);
      addDefaultRoute(connection, UNDERLAY.last.add(-1n), "eth0");
    });
    withConnection(this.#switch, (connection) => setUp(connection, port, SWITCH));
    // What a host that serves containers does: it routes.
    withNetns(host, () => writeFileSync("/proc/sys/net/ipv4/ip_forward", "1"));
    return { name: `host${number}`, host, container: this.#create(), outerAddress };
  }

  /**
   * Gives a container its place in the host's subnet, as a container runtime does with what it
   * reads in subnet.env, and waits until packets pass. Returns the container's address.
   */
  async attachContainer(
    network: HostNetwork,
    subnet: IpPrefix,
    mtu_bytes: number,
  ): Promise<IpAddress> {
    const gateway = subnet.address.add(1n);
    const address = subnet.address.add(2n);
    withConnection(network.host, (connection) => {
      rtnetlink.createBridge(connection, { name: CONTAINER_BRIDGE, mtu_bytes });
      setUp(connection, CONTAINER_BRIDGE);
      giveAddress(connection, CONTAINER_BRIDGE, gateway, subnet.length);
      const peer = { name: "eth0", netnsFd: network.container.fd, mtu_bytes };
      createVeth(connection, { name: "veth0", mtu_bytes, peer });
      setUp(connection, "veth0", CONTAINER_BRIDGE);
    });
    withConnection(network.container, (connection) => {
      setUp(connection, "eth0");
      giveAddress(connection, "eth0", address, subnet.length);
      addDefaultRoute(connection, gateway, "eth0");
    });
    await untilUp(network.container, "eth0");
    await untilUp(network.host, "veth0", CONTAINER_BRIDGE);
    return address;
  }

  /** Lets go of the namespaces: each ends, with all that is in it, when its last process has. */
  close(): void {
    for (const netns of this.#open.splice(0)) closeNetns(netns);
    this.hosts.length = 0;
  }
}

function addDefaultRoute(
  connection: NetlinkConnection,
  gateway: IpAddress,
  linkName: string,
): void {
  const linkIndex = requireLink(connection, linkName).index;
  const destination = DEFAULT_ROUTE;
  rtnetlink.addRoute(connection, {
    destination,
    linkIndex,
    linkName,
    gateway,
    protocol: RTPROT_STATIC,
  });
}
