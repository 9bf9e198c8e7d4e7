/** Sees what is written to the tables of a host's kernel, by the kernel's own notifications. */
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "../../ffi/netlink_listener.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { AF_NETLINK, SOCK_RAW } from "../../ffi/socket_address.ts";
import { decodeLink, RTM_DELLINK, RTM_NEWLINK } from "../../src/netlink/link.ts";
import { AF_BRIDGE } from "../../src/netlink/layout.ts";
import { type NetlinkMessage, parseMessages } from "../../src/netlink/message.ts";
import { readNeighbourHeader, RTM_DELNEIGH, RTM_NEWNEIGH } from "../../src/netlink/neighbour.ts";
import { NFNLGRP_NFTABLES } from "../../src/netlink/nftables/notification.ts";
import { ROUTE_GROUPS } from "../../src/netlink/notification.ts";

const MSG_DONTWAIT = 0x40;
const CHUNK_BYTES = 64 * 1024;

/** Opens a socket in the namespace that hears these groups (1 to 32). */
function listen(netns: Netns, protocol: number, groups: readonly number[]): number {
  const address = new Uint8Array(12);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups.reduce((bits, group) => bits | (1 << (group - 1)), 0) >>> 0, true);
  return withNetns(netns, () => {
    const fd = check(libc.socket(AF_NETLINK, SOCK_RAW, protocol), "open a netlink socket");
    check(libc.bind(fd, address, address.length), "listen to netlink groups");
    return fd;
  });
}

/** What tells of a write rather than of something that the kernel found out by itself. */
function isRouteWrite({ type, portId, payload }: NetlinkMessage): boolean {
  if (portId !== 0) return true;
  // These are told without whose doing it was.
  if (type === RTM_NEWLINK || type === RTM_DELLINK) {
    return decodeLink(payload).name.startsWith("selv");
  }
  if (type !== RTM_NEWNEIGH && type !== RTM_DELNEIGH) return false;
  return readNeighbourHeader(payload).familyCode === AF_BRIDGE;
}

export class KernelWitness {
  readonly #route_fd: number;
  readonly #netfilter_fd: number;

  /** Watches from now on. The caller closes it. */
  constructor(netns: Netns) {
    this.#route_fd = listen(netns, NETLINK_ROUTE, ROUTE_GROUPS);
    this.#netfilter_fd = listen(netns, NETLINK_NETFILTER, [NFNLGRP_NFTABLES]);
  }

  #drain(fd: number): NetlinkMessage[] {
    const messages: NetlinkMessage[] = [];
    while (true) {
      const chunk = new Uint8Array(CHUNK_BYTES);
      const size = libc.recv(fd, chunk, chunk.length, MSG_DONTWAIT);
      if (size <= 0) return messages;
      messages.push(...parseMessages(chunk.subarray(0, size)));
    }
  }

  /** What was written since the last call, one text a message. */
  writes(): string[] {
    const text = (what: string) => ({ type, payload }: NetlinkMessage) =>
      `${what} message ${type}: ${Buffer.from(payload.subarray(0, 64)).toString("hex")}`;
    return [
      ...this.#drain(this.#route_fd).filter(isRouteWrite).map(text("rtnetlink")),
      ...this.#drain(this.#netfilter_fd).map(text("nftables")),
    ];
  }

  close(): void {
    closeFd(this.#route_fd);
    closeFd(this.#netfilter_fd);
  }
}
