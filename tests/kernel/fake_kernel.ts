/**
 * A kernel in memory: links, addresses and routes behind a scripted netlink socket. What it is
 * sent it stores as it is and gives back in dumps, since requests and dumps have one layout.
 */
import { decodeAddress, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR } from "../../src/netlink/address.ts";
import { Attributes, PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import {
  decodeLink,
  IFF_LOOPBACK,
  IFF_UP,
  IFINFOMSG_SIZE,
  type Link,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK,
} from "../../src/netlink/link.ts";
import {
  type NetlinkMessage,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_MULTI,
} from "../../src/netlink/message.ts";
import { RTM_GETNEXTHOP } from "../../src/netlink/nexthop.ts";
import { decodeRoute, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE } from "../../src/netlink/route.ts";
import { viewOf } from "../../src/netlink/layout.ts";
import {
  acknowledge,
  datagram,
  done,
  type Incoming,
  reply,
  ScriptedSocket,
} from "../netlink/scripted_socket.ts";

const [ESRCH, EEXIST, ENODEV, EOPNOTSUPP, ENETUNREACH] = [3, 17, 19, 95, 101] as const;

export interface FakeLink {
  readonly index: number;
  readonly name: string;
  readonly kind?: string;
  mtu_bytes?: number;
  isUp?: boolean;
  /** IF_OPER_*; 2: down. */
  operState?: number;
}

function encodeLink(link: FakeLink): Uint8Array {
  const { index, name, kind, mtu_bytes = 1500, isUp = false, operState = 0 } = link;
  const flags = (isUp ? IFF_UP : 0) | (name === "lo" ? IFF_LOOPBACK : 0);
  const writer = new PayloadWriter().u32(0).u32(index).u32(flags).u32(0)
    .attributeText(3, name).attributeU32(4, mtu_bytes).attributeU8(16, operState);
  if (kind) writer.nested(18, () => writer.attributeText(1, kind));
  return writer.finish();
}

export class FakeKernel {
  readonly socket: ScriptedSocket = new ScriptedSocket((message) => this.#answer(message));
  readonly connection: NetlinkConnection = new NetlinkConnection(this.socket, () => {});
  /** Payloads of RTM_NEWADDR and RTM_NEWROUTE. */
  readonly addresses: Uint8Array[] = [];
  routes: Uint8Array[] = [];
  /** Messages that change something, whether or not it let them. */
  writeCount = 0;
  /** The errno to refuse a change with, 0 to let it. */
  refuse: (message: NetlinkMessage) => number = () => 0;
  /** The errno to refuse a dump with, 0 to let it. */
  refuseDump: (message: NetlinkMessage) => number = () => 0;
  /** The payload of the RTM_NEWROUTE that answers every look-up; null: unreachable. */
  lookUp: Uint8Array | null = null;
  /** Called after each change that it let. */
  afterWrite: () => void = () => {};

  constructor(readonly links: FakeLink[]) {}

  /** The addresses as text, `10.0.0.1/24 #2`. */
  addressTexts(): string[] {
    return this.addresses.map((payload) => {
      const { address, prefixLength, linkIndex } = decodeAddress(payload)!;
      return `${address}/${prefixLength} #${linkIndex}`;
    });
  }

  /** The routes as text, `10.0.0.0/8 via 10.1.0.1 #2 proto 83`. */
  routeTexts(): string[] {
    return this.routes.map((payload) => {
      const { destination, nextHops, protocol } = decodeRoute(payload)!;
      const hops = nextHops.map(({ gateway, linkIndex }) =>
        `${gateway ? ` via ${gateway}` : ""} #${linkIndex}`
      );
      return `${destination}${hops.join("")} proto ${protocol}`;
    });
  }

  #answer(message: NetlinkMessage): Incoming[] {
    const isDump = (message.flags & NLM_F_DUMP) === NLM_F_DUMP;
    switch (message.type) {
      case RTM_GETLINK:
        return isDump
          ? this.#dump(message, RTM_NEWLINK, this.links.map(encodeLink))
          : this.#getLink(message);
      case RTM_GETNEXTHOP:
        return [acknowledge(message, EOPNOTSUPP)];
      case RTM_GETADDR:
        return this.#dump(message, RTM_NEWADDR, this.addresses);
      case RTM_GETROUTE: {
        if (!isDump) return this.#lookUp(message);
        const family = message.payload[0];
        const routes = this.routes.filter((payload) => payload[0] === family);
        return this.#dump(message, RTM_NEWROUTE, routes);
      }
    }
    this.writeCount += 1;
    const errno = this.refuse(message) || this.#write(message);
    if (errno === 0) this.afterWrite();
    return [acknowledge(message, errno)];
  }

  #dump(message: NetlinkMessage, type: number, payloads: readonly Uint8Array[]): Incoming[] {
    const errno = this.refuseDump(message);
    if (errno !== 0) return [acknowledge(message, errno)];
    const replies = payloads.map((payload) => reply(message, type, payload, NLM_F_MULTI));
    return [...replies.map((message) => datagram(message)), done(message)];
  }

  #getLink(message: NetlinkMessage): Incoming[] {
    const name = Attributes.parse(message.payload.subarray(IFINFOMSG_SIZE), "test").text(3);
    const link = this.links.find((link) => link.name === name);
    if (link === undefined) return [acknowledge(message, ENODEV)];
    return [datagram(reply(message, RTM_NEWLINK, encodeLink(link))), acknowledge(message)];
  }

  #lookUp(message: NetlinkMessage): Incoming[] {
    if (this.lookUp === null) return [acknowledge(message, ENETUNREACH)];
    return [datagram(reply(message, RTM_NEWROUTE, this.lookUp)), acknowledge(message)];
  }

  #write({ type, flags, payload }: NetlinkMessage): number {
    switch (type) {
      case RTM_SETLINK:
        return this.#setLink(payload);
      case RTM_NEWADDR:
        this.addresses.push(payload);
        return 0;
      case RTM_DELADDR: {
        const gone = decodeAddress(payload)!;
        const i = this.addresses.map((payload) => decodeAddress(payload)!).findIndex((entry) =>
          entry.address.equals(gone.address) && entry.linkIndex === gone.linkIndex &&
          entry.prefixLength === gone.prefixLength
        );
        return i < 0 ? ESRCH : (this.addresses.splice(i, 1), 0);
      }
      case RTM_NEWROUTE: {
        const i = this.#findRoute(payload);
        if (i >= 0 && (flags & NLM_F_EXCL) !== 0) return EEXIST;
        if (i >= 0) this.routes[i] = payload;
        else this.routes.push(payload);
        return 0;
      }
      case RTM_DELROUTE: {
        const i = this.#findRoute(payload, true);
        return i < 0 ? ESRCH : (this.routes.splice(i, 1), 0);
      }
    }
    throw new Error(`the fake kernel knows no message ${type}`);
  }

  #setLink(payload: Uint8Array): number {
    const view = viewOf(payload);
    const link = this.links.find(({ index }) => index === view.getInt32(4, true));
    if (link === undefined) return ENODEV;
    const mtu_bytes = Attributes.parse(payload.subarray(IFINFOMSG_SIZE), "test").u32(4);
    if (mtu_bytes !== undefined) link.mtu_bytes = mtu_bytes;
    if ((view.getUint32(12, true) & 1) !== 0) link.isUp = (view.getUint32(8, true) & 1) !== 0;
    return 0;
  }

  /** By destination and metric, as the kernel tells routes apart; `isExact`: and the rest. */
  #findRoute(payload: Uint8Array, isExact = false): number {
    const wanted = decodeRoute(payload)!;
    return this.routes.map((payload) => decodeRoute(payload)!).findIndex((route) =>
      route.destination.equals(wanted.destination) && route.metric === wanted.metric &&
      (!isExact || (route.protocol === wanted.protocol &&
        JSON.stringify(route.nextHops) === JSON.stringify(wanted.nextHops)))
    );
  }
}

/** A link as the codec reads it. */
export function linkOf(link: FakeLink): Link {
  return decodeLink(encodeLink(link));
}
