import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PlanInput } from "../../src/backend/backend.ts";
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { udpBackend } from "../../src/backend/udp.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { leaseOf, LINK as SAMPLE_LINK, MACS } from "./sample.ts";

const config = (value: unknown) => parseNetworkConfig(JSON.stringify(value), "test");
const NETWORK = config({ Network: "10.210.0.0/16" });

/** What it publishes is another address than its interface has. */
const LINK = {
  ...SAMPLE_LINK,
  addresses: [IpAddress.parse("192.0.2.1")],
  publicAddresses: [IpAddress.parse("203.0.113.1")],
};

function lease(key: string, address: string, changes: Partial<Lease> = {}): Lease {
  return { ...leaseOf(key, [address], "udp"), ...changes };
}

const input = (peers: Lease[], changes: Partial<PlanInput> = {}): PlanInput => ({
  config: NETWORK,
  link: LINK,
  vtepMacs: MACS,
  lease: lease("10.210.5.0-24", "203.0.113.1"),
  peers,
  ...changes,
});

describe("udp backend", () => {
  test("the kernel gets flannel's device, address and route", () => {
    const { kernel } = udpBackend.plan(input([]));
    assert.deepEqual(JSON.parse(JSON.stringify(kernel)), {
      ...NO_KERNEL_STATE,
      links: [{ name: "selvage0", kind: "tun", family: 4, mtu_bytes: 1472 }],
      addresses: [{ linkName: "selvage0", address: "10.210.5.0", prefixLength: 32 }],
      routes: [{
        destination: "10.210.0.0/16",
        linkName: "selvage0",
        gateway: null,
        isOnLink: false,
        peerKey: null,
      }],
    });
  });

  test("a peer is forwarded to its public address and our port", () => {
    const peers = [lease("10.210.9.0-24", "192.0.2.9"), lease("10.210.7.0-24", "192.0.2.7")];
    const withPort = config({ Network: "10.210.0.0/16", Backend: { Type: "UDP", port: 9000 } });
    const plan = udpBackend.plan(input(peers, { config: withPort }));
    const common = { port: 9000, vtepMac: null };
    assert.deepEqual(JSON.parse(JSON.stringify(plan.forwarding)), [
      { ...common, key: "10.210.7.0-24", subnet: "10.210.7.0/24", address: "192.0.2.7" },
      { ...common, key: "10.210.9.0-24", subnet: "10.210.9.0/24", address: "192.0.2.9" },
    ]);
    assert.deepEqual(plan.skipped, []);
  });

  const BAD: [Lease, RegExp][] = [
    [lease("10.210.9.0-24", "192.0.2.9", { backendType: "vxlan" }), /backend is vxlan/],
    [lease("10.210.9.0-24", "203.0.113.1"), /our public address/],
    [lease("10.210.9.0-24", "0.0.0.0"), /not a host's/],
    [lease("10.210.9.0-24", "239.1.1.1"), /not a host's/],
    [lease("10.210.9.0-24", "10.210.9.9"), /lies in the network/],
    [lease("10.211.9.0-24", "192.0.2.9"), /outside the network/],
    [lease("10.210.5.128-25", "192.0.2.9"), /overlaps ours/],
    [lease("10.210.7.128-25", "192.0.2.9"), /overlaps 10\.210\.7\.0\/24/],
    [lease("fc00::-64", "2001:db8::1"), /no IPv4/],
  ];
  for (const [bad, reason] of BAD) {
    test(`left out by name, all others served: ${reason.source}`, () => {
      const good = lease("10.210.7.0-24", "192.0.2.7");
      const plan = udpBackend.plan(input([bad, good]));
      assert.deepEqual(plan.forwarding.map((entry) => entry.key), ["10.210.7.0-24"]);
      assert.equal(plan.skipped.length, 1);
      assert.match(plan.skipped[0]!.reason, reason);
    });
  }

  for (const port of [0, 65536, -1, 1.5, "8285"]) {
    test(`port ${JSON.stringify(port)} is refused`, () => {
      const bad = config({ Network: "10.210.0.0/16", Backend: { Type: "udp", Port: port } });
      assert.throws(() => udpBackend.tunnels(bad, LINK, MACS), /Backend\.Port .* is not a port/);
    });
  }

  test("one tunnel, of raw IPv4 packets", () => {
    const encapsulation = { type: "none" };
    assert.deepEqual(udpBackend.tunnels(NETWORK, LINK, MACS), [
      { family: 4, device: "selvage0", port: 8285, mtu_bytes: 1472, encapsulation },
    ]);
  });

  test("IPv6 is refused by name", () => {
    const dual = config({ Network: "10.210.0.0/16", EnableIPv6: true, IPv6Network: "fc00::/48" });
    assert.throws(() => udpBackend.check(dual, null), /backend udp carries only IPv4/);
  });

  test("an MTU too small for encapsulation is refused", () => {
    assert.equal(udpBackend.mtu_bytes(NETWORK, { ...LINK, mtu_bytes: 96 }), 68);
    assert.throws(
      () => udpBackend.mtu_bytes(NETWORK, { ...LINK, mtu_bytes: 95 }),
      /leaves no room/,
    );
  });
});

test("a backend that is not there is refused by name, with those that are", () => {
  assert.equal(selectBackend(NETWORK, ANY_HOST).type, "udp");
  const other = config({ Network: "10.210.0.0/16", Backend: { Type: "carrier-pigeon" } });
  assert.throws(
    () => selectBackend(other, ANY_HOST),
    (error) =>
      /"carrier-pigeon" is not supported/.test(String(error)) &&
      /udp/.test((error as { hint: string }).hint),
  );
});
