/** What the lab's hosts and containers need beside IPv4: IPv6 addresses, and traffic over both. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";
import type { TransferResult } from "../../src/demo/transfer.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { Lab } from "./lab.ts";

const TRANSFER_CHILD = resolve("tests/e2e/transfer_child.ts");

/** Runs `ip`, or another program of iproute2, in a namespace; it must succeed. */
export function ip(lab: Lab, netns: Netns, command: string, program = "ip"): void {
  const { status, stderr } = lab.exec(netns, program, ...command.split(" "));
  assert.equal(status, 0, `${program} ${command}: ${stderr}`);
}

/** Runs `ip` once for each of these. */
export function all(lab: Lab, netns: Netns, commands: readonly string[]): void {
  for (const command of commands) ip(lab, netns, command);
}

/** The outer IPv6 address of a host. */
export function outerV6(host: number): IpAddress {
  return IpAddress.parse(`2001:db8::${host}`);
}

/** Gives a host its outer IPv6 address, at once usable, and has it route. */
export function giveOuterV6(lab: Lab, host: number): void {
  const netns = lab.network(host).host;
  ip(lab, netns, `-6 addr add ${outerV6(host)}/64 dev eth0 nodad`);
  withNetns(netns, () => writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1"));
}

/** Gives a host's container its IPv6 address beside the IPv4 one, as `Lab.attach` does that. */
export function attachV6(lab: Lab, host: number, subnet: IpPrefix): IpAddress {
  const { host: netns, container } = lab.network(host);
  const gateway = subnet.address.add(1n);
  const address = subnet.address.add(2n);
  ip(lab, netns, `-6 addr add ${gateway}/${subnet.length} dev cni0 nodad`);
  ip(lab, container, `-6 addr add ${address}/${subnet.length} dev eth0 nodad`);
  ip(lab, container, `-6 route add default via ${gateway}`);
  return address;
}

/** One container by its host and one of its addresses. */
export interface End {
  readonly host: number;
  readonly address: IpAddress;
}

/** Pings three times, with packets of this size that must not be cut; all must come back. */
export function assertPings(lab: Lab, from: End, to: End, size_bytes: number): void {
  const headers_bytes = (to.address.family === 4 ? 20 : 40) + 8;
  const size = String(size_bytes - headers_bytes);
  lab.assertAnswered(from.host, to.address, "-M", "do", "-s", size);
}

function startChild(lab: Lab, end: End, ...args: string[]) {
  const netns = lab.network(end.host).container;
  const all = ["run", "-A", TRANSFER_CHILD, ...args];
  const child = spawnInNetns(netns, process.execPath, all, ["ignore", "pipe", "inherit"]);
  return { child, output: child.stdout!.setEncoding("utf8") };
}

/** Sends over TCP; both ends hash, and the hashes must be equal. */
export async function assertTransfer(
  lab: Lab,
  from: End,
  to: End,
  size_bytes: number,
): Promise<void> {
  const server = startChild(lab, to, "serve", `${to.address}`);
  try {
    const [port] = await once(server.output, "data") as [string];
    const sender = startChild(lab, from, "send", `${to.address}`, port.trim(), String(size_bytes));
    let text = "";
    sender.output.on("data", (part: string) => text += part);
    await once(sender.child, "close");
    assert.notEqual(text, "", `host${from.host} to ${to.address}: the sender failed`);
    const result = JSON.parse(text) as TransferResult;
    assert.equal(result.receivedSha256, result.sentSha256);
  } finally {
    await endProcess(server.child);
  }
}
