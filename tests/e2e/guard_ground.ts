/**
 * The ground of the attacks on a tunnel: two nodes with containers, a machine on the underlay
 * that is no node, and what each of them may and may not send.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { sockaddrOf } from "../../ffi/socket_address.ts";
import type { Status } from "../../src/agent/status.ts";
import { type Family, IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { BarePeer } from "./bare_peer.ts";
import { attachV6, giveOuterV6, outerV6 } from "./dual_stack.ts";
import { ipFrame, sendDatagrams, udpPacket } from "./forged_frames.ts";
import { type Lab, withLab } from "./lab.ts";
import { NOBODY } from "./user_socket.ts";

const NETWORK = { Network: "10.210.0.0/16" };
const DUAL = { ...NETWORK, EnableIPv6: true, IPv6Network: "fc00::/48" };
/** Where the victims listen. */
export const PORT = 9999;
const TIMEOUT_MS = 20_000;
/** All texts that come to one socket. */
export class Listener {
  readonly #peer: BarePeer;
  readonly heard: string[] = [];

  constructor(netns: Netns, address: string) {
    this.#peer = new BarePeer(netns, IpAddress.parse(address), PORT);
  }

  drain(): void {
    for (;;) {
      const datagram = this.#peer.receive(0);
      if (datagram === null) return;
      this.heard.push(new TextDecoder().decode(datagram));
    }
  }

  close(): void {
    this.#peer.close();
  }
}

/** One lab of a backend in one family: what is sent there, by whom. */
export class Ground {
  #number = 0;

  constructor(
    readonly lab: Lab,
    readonly family: Family,
    readonly victim: Status,
    readonly peer: Status,
    readonly listener: Listener,
  ) {}

  get subnets() {
    const subnetOf = ({ lease }: Status) =>
      lease!.subnets.map((text) => IpPrefix.parse(text))
        .find(({ family }) => family === this.family)!;
    return { victim: subnetOf(this.victim), peer: subnetOf(this.peer) };
  }

  outer(host: number): IpAddress {
    return this.family === 4 ? this.lab.network(host).outerAddress : outerV6(host);
  }

  /** The address of container 1 or 2. */
  container(host: 1 | 2): string {
    const { victim, peer } = this.subnets;
    return `${(host === 1 ? victim : peer).address.add(2n)}`;
  }

  /** Of the tunnel; null: there is none. */
  get port(): number | null {
    const { tunnels, devices } = this.victim.backend!;
    return tunnels[0]?.port ?? devices[0]?.port ?? null;
  }

  get mac(): string | null {
    const { tunnels, devices } = this.victim.backend!;
    const index = this.family === 4 ? 0 : 1;
    return tunnels[index]?.vtepMac ?? devices[index]?.vtepMac ?? null;
  }

  /** What the tunnel of host 1 gets for this inner packet. */
  wrapped(inner: Uint8Array): Uint8Array {
    return this.mac === null ? inner : ipFrame(this.mac, inner);
  }

  /** What container 2 could have sent to container 1, with this text. */
  rightful(text: string): Uint8Array {
    return this.wrapped(udpPacket(this.container(2), this.container(1), PORT, text));
  }

  /** Sends to the tunnel of host 1 as root of a host, or of its container. */
  send(host: number, datagram: Uint8Array, isContainer = false): void {
    const { host: netns, container } = this.lab.network(host);
    const from = isContainer ? IpAddress.parse(this.container(2)) : this.outer(host);
    sendDatagrams(isContainer ? container : netns, from, this.outer(1), this.port!, [datagram]);
  }

  /** Puts a whole packet of the family on the link to host 1, or lets container 2 put it there. */
  sendRaw(host: number, bytes: Uint8Array, isContainer = false): void {
    const { host: netns, container } = this.lab.network(host);
    const fd = withNetns(isContainer ? container : netns, () => openRawSocket(this.family));
    try {
      // The packet goes where this address is reached, whatever destination it says itself.
      const next = isContainer ? IpAddress.parse(this.container(1)) : this.outer(1);
      const { name } = sockaddrOf(next.toBytes(), 0);
      check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send a raw packet");
    } finally {
      closeFd(fd);
    }
  }

  /** Lets the container of a host put a whole packet of either family on its way to host 1. */
  sendRawFromContainer(host: 1 | 2, bytes: Uint8Array): void {
    const fd = withNetns(this.lab.network(host).container, () => openRawSocket(this.family));
    try {
      const { name } = sockaddrOf(this.outer(1).toBytes(), 0);
      check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send a raw packet");
    } finally {
      closeFd(fd);
    }
  }

  /** Sends as an ordinary user of host 2. */
  sendAsUser(to: string, port: number, datagram: Uint8Array): void {
    const words = [`--reuid=${NOBODY}`, "--clear-groups", "bash", "-c"];
    withNetns(this.lab.network(2).host, () => {
      const script = `cat > /dev/udp/${to}/${port}`;
      spawnSync("setpriv", [...words, script], { input: datagram, timeout: TIMEOUT_MS });
    });
  }

  /** Sends what must always arrive. */
  sendByRight(text: string): void {
    if (this.port !== null) return this.send(2, this.rightful(text));
    this.sendRaw(2, udpPacket(this.container(2), this.container(1), PORT, text), true);
  }

  /** Has something sent until it arrives. */
  async arrives(what: string, send: (text: string) => void): Promise<void> {
    const text = `${what} ${++this.#number}`;
    const end_ms = performance.now() + TIMEOUT_MS;
    while (!this.listener.heard.includes(text)) {
      assert.ok(performance.now() < end_ms, `${what} did not arrive`);
      send(text);
      await setTimeout(10);
      this.listener.drain();
    }
  }

  /** Has something sent, then shows that what comes after it by right arrives, and it does not. */
  async isStopped(what: string, send: (text: string) => void): Promise<void> {
    const text = `attack of ${what} ${++this.#number}`;
    for (let i = 0; i < 3; i++) send(text);
    await this.arrives("what a node sends", (right) => this.sendByRight(right));
    await setTimeout(50);
    this.listener.drain();
    assert.ok(!this.listener.heard.includes(text), `${what} got through`);
  }

  /** Waits until a counter of a host is at least so high. */
  async counts(host: number, reason: string, least = 1): Promise<void> {
    await this.lab.until(
      host,
      `${reason} is not ${least}`,
      ({ guard, dataPlane }) => ({ ...dataPlane?.drops, ...guard?.drops })[reason]! >= least,
    );
  }
}

/** Starts hosts 1 and 2 with containers and masquerading; host 3 is on the underlay only. */
export async function withGround(
  backend: Record<string, unknown>,
  families: readonly Family[],
  run: (ground: Ground) => Promise<void>,
  moreFlags: readonly string[] = [],
): Promise<void> {
  await withLab(3, async (lab) => {
    const isDual = families.includes(6);
    if (isDual) { for (const host of [1, 2, 3]) giveOuterV6(lab, host); }
    const flags = ["--ip-masq", ...moreFlags];
    await lab.startRegistry({ ...(isDual ? DUAL : NETWORK), Backend: backend }, flags);
    await lab.startJoined(2, flags);
    await lab.untilPeers(1, 1, 2);
    const [victim, peer] = [await lab.ready(1), await lab.ready(2)];
    for (const host of [1, 2]) await lab.attach(host);
    if (isDual) {
      for (const [host, { lease }] of [[1, victim], [2, peer]] as const) {
        attachV6(lab, host, IpPrefix.parse(lease!.subnets[1]!));
      }
    }
    for (const family of families) {
      const subnet = IpPrefix.parse(victim.lease!.subnets[family === 4 ? 0 : 1]!);
      const listener = new Listener(lab.network(1).container, `${subnet.address.add(2n)}`);
      try {
        await run(new Ground(lab, family, victim, peer, listener));
      } finally {
        listener.close();
      }
    }
  });
}
