/**
 * Brings thousands of peers into the kernel's tables of the namespace that it is started in, from
 * leases in memory to the dump that shows them all, and says how long that took and how much was
 * written. A process is as cold as a daemon that starts.
 *
 *     peers_child.ts vxlan|host-gw PEERS
 */
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import type { PlanInput } from "../../src/backend/backend.ts";
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { chooseOuterLink } from "../../src/kernel/outer_link.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import { OUTER_ADDRESS, OUTER_DEVICE, type PeersTime } from "./peers_time.ts";

const NETWORK = IpPrefix.parse("10.0.0.0/8");
const SUBNET_LENGTH = 24;
const FIRST_PUBLIC_ADDRESS = IpAddress.parse(OUTER_ADDRESS);
const VTEP_MACS = {
  4: MacAddress.parse("02:53:00:00:00:00"),
  6: MacAddress.parse("02:53:60:00:00:00"),
};

/** Node `number`'s VTEP; ours is the first. */
function vtepMac(number: number): string {
  const bytes = VTEP_MACS[4].toBytes();
  new DataView(bytes.buffer).setUint32(2, number);
  return MacAddress.fromBytes(bytes).toString();
}

/** Node `number`'s lease; ours is the first. */
function leaseOf(backendType: string, number: number): Lease {
  const subnet = NETWORK.address.add(BigInt(number + 1) << BigInt(32 - SUBNET_LENGTH));
  const data = { VNI: 1, VtepMAC: vtepMac(number) };
  return {
    publicAddresses: [FIRST_PUBLIC_ADDRESS.add(BigInt(number))],
    backendType,
    backendData: backendType === "vxlan" ? { 4: data } : {},
    subnets: [IpPrefix.of(subnet, SUBNET_LENGTH)],
    expiry_ms: null,
  };
}

function inputOf(type: string, peerCount: number, connection: NetlinkConnection): PlanInput {
  const config = { Network: `${NETWORK}`, SubnetLen: SUBNET_LENGTH, Backend: { Type: type } };
  return {
    config: parseNetworkConfig(JSON.stringify(config), "benchmark"),
    link: chooseOuterLink(connection, {
      interfaces: [OUTER_DEVICE],
      interfaceRegexes: [],
      canReach: null,
      publicAddresses: [],
    }),
    vtepMacs: VTEP_MACS,
    lease: leaseOf(type, 0),
    peers: Array.from({ length: peerCount }, (_, i) => leaseOf(type, i + 1)),
  };
}

function measure(type: string, peerCount: number): PeersTime {
  const connection = new NetlinkConnection(new NetlinkRouteSocket());
  try {
    const input = inputOf(type, peerCount, connection);
    const backend = selectBackend(input.config, ANY_HOST);
    const start_ms = performance.now();
    const { kernel, skipped } = backend.plan(input);
    const result = new Reconciler(connection).reconcile(kernel);
    const end_ms = performance.now();
    const problems = [
      ...skipped.map(({ key, reason }) => `${key}: ${reason}`),
      ...result.problems,
      ...[...result.peerProblems].map(([key, problem]) => `${key}: ${problem}`),
    ];
    if (problems.length > 0) throw new Error(`${problems.length} problems: ${problems[0]}`);
    if (kernel.routes.length !== peerCount) throw new Error("a peer without a route");
    return { time_ms: end_ms - start_ms, changeCount: result.changeCount };
  } finally {
    connection.close();
  }
}

console.log(JSON.stringify(measure(process.argv[2]!, Number(process.argv[3]))));
