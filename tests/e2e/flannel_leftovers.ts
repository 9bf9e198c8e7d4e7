/**
 * What flanneld v0.20.2 leaves on a host when it ends, made by iproute2 and iptables as it was seen
 * there: devices and routes of its backends, and the rules of `--ip-masq`.
 */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { NamespaceShell } from "./namespace_shell.ts";

export const NETWORK = "10.210.0.0/16";

/** A host of flannel's. */
export interface FlannelHost {
  readonly address: string;
  /** The third byte of its subnet. */
  readonly number: number;
  readonly mac: string;
}

export const HOSTS: readonly FlannelHost[] = [
  { address: "198.18.0.1", number: 52, mac: "ea:18:5c:b2:85:27" },
  { address: "198.18.0.2", number: 67, mac: "aa:f3:68:3c:a3:48" },
];

export function writeSubnetEnv(path: string, { number }: FlannelHost, mtu_bytes: number): void {
  mkdirSync(dirname(path), { recursive: true });
  const lines = [
    `FLANNEL_NETWORK=${NETWORK}`,
    `FLANNEL_SUBNET=10.210.${number}.1/24`,
    `FLANNEL_MTU=${mtu_bytes}`,
    "FLANNEL_IPMASQ=true",
  ];
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
}

/** Of backend vxlan. */
export function vxlanCommands(own: FlannelHost, peer: FlannelHost): string[] {
  const gateway = `10.210.${peer.number}.0`;
  return [
    `ip link add flannel.1 address ${own.mac} mtu 1450 type vxlan id 1 local ${own.address} ` +
    "dev eth0 dstport 8472 nolearning",
    `ip addr add 10.210.${own.number}.0/32 dev flannel.1`,
    "ip link set flannel.1 up",
    `ip neigh add ${gateway} lladdr ${peer.mac} dev flannel.1 nud permanent`,
    `bridge fdb append ${peer.mac} dev flannel.1 dst ${peer.address} self permanent`,
    `ip route add ${gateway}/24 via ${gateway} dev flannel.1 onlink`,
  ];
}

/** Of backend host-gw, and of DirectRouting. */
export function hostGwCommands({ number, address }: FlannelHost): string[] {
  return [`ip route add 10.210.${number}.0/24 via ${address} dev eth0`];
}

/** Of `--ip-masq` by iptables-nft. */
export function masqueradeCommands({ number }: FlannelHost): string[] {
  const subnet = `10.210.${number}.0/24`;
  const forward = "iptables-nft -w";
  const masquerade = "iptables-nft -w -t nat";
  return [
    `${forward} -N FLANNEL-FWD`,
    `${forward} -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD`,
    `${forward} -A FLANNEL-FWD -s ${NETWORK} -j ACCEPT`,
    `${forward} -A FLANNEL-FWD -d ${NETWORK} -j ACCEPT`,
    `${masquerade} -N FLANNEL-POSTRTG`,
    `${masquerade} -A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG`,
    `${masquerade} -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN`,
    `${masquerade} -A FLANNEL-POSTRTG -s ${NETWORK} -d ${NETWORK} -j RETURN`,
    `${masquerade} -A FLANNEL-POSTRTG -s ${NETWORK} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully`,
    `${masquerade} -A FLANNEL-POSTRTG ! -s ${NETWORK} -d ${subnet} -j RETURN`,
    `${masquerade} -A FLANNEL-POSTRTG ! -s ${NETWORK} -d ${NETWORK} -j MASQUERADE --random-fully`,
  ];
}

/** Runs commands that print nothing. */
export async function runAll(shell: NamespaceShell, commands: readonly string[]): Promise<void> {
  for (const command of commands) assert.equal(await shell.run(command), "", command);
}
