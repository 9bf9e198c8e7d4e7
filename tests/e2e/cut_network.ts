/**
 * Hosts around a switch, each in a namespace of its own, whose links the switch takes down and up:
 *
 *     [ host N ] eth0 198.18.0.N --- portN [ switch ] 198.18.0.254
 *
 * The namespaces are held by descriptors of this process alone and end with it.
 */
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, type Netns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import * as rtnetlink from "../../src/netlink/rtnetlink.ts";

const FIRST = IpAddress.parse("198.18.0.0");
const PREFIX_LENGTH = 24;
const SWITCH_NUMBER = 254;
const BRIDGE = "sw0";

/** The address of a host by its number. */
export function outerAddress(number: number): IpAddress {
  return FIRST.add(BigInt(number));
}

class Namespace {
  readonly netns: Netns = createTestNetns();
  readonly #socket = withNetns(this.netns, () => new NetlinkRouteSocket());
  readonly connection = new NetlinkConnection(this.#socket);

  set(name: string, isUp: boolean, master?: string): void {
    const link = rtnetlink.getLink(this.connection, name)!;
    const masterIndex = master === undefined
      ? undefined
      : rtnetlink.getLink(this.connection, master)!.index;
    rtnetlink.setLink(this.connection, link, {
      isUp,
      ...(masterIndex === undefined ? {} : { masterIndex }),
    });
  }

  give(linkName: string, number: number): void {
    const linkIndex = rtnetlink.getLink(this.connection, linkName)!.index;
    const address = outerAddress(number);
    rtnetlink.addAddress(this.connection, {
      ...{ linkIndex, linkName, address, prefixLength: PREFIX_LENGTH },
    });
    this.set(linkName, true);
  }

  close(): void {
    this.#socket.close();
    closeNetns(this.netns);
  }
}

export class CutNetwork {
  readonly #switch = new Namespace();
  readonly #hosts: Namespace[] = [];

  constructor(hostCount: number) {
    rtnetlink.createBridge(this.#switch.connection, { name: BRIDGE });
    this.#switch.give(BRIDGE, SWITCH_NUMBER);
    for (let number = 1; number <= hostCount; number++) this.#addHost(number);
  }

  #addHost(number: number): void {
    const host = new Namespace();
    this.#hosts.push(host);
    const peer = { name: "eth0", netnsFd: host.netns.fd };
    rtnetlink.createVeth(this.#switch.connection, { name: `port${number}`, peer });
    host.set("lo", true);
    host.give("eth0", number);
    this.#switch.set(`port${number}`, true, BRIDGE);
  }

  /** The namespace of the switch, from which all hosts are reached that are not cut off. */
  get switch(): Netns {
    return this.#switch.netns;
  }

  host(number: number): Netns {
    return this.#hosts[number - 1]!.netns;
  }

  /** Nothing gets to the host or away from it; what waits to be sent there, or dies, is TCP's. */
  cut(number: number): void {
    this.#switch.set(`port${number}`, false);
  }

  join(number: number): void {
    this.#switch.set(`port${number}`, true);
  }

  close(): void {
    for (const one of [this.#switch, ...this.#hosts.splice(0)]) one.close();
  }
}
