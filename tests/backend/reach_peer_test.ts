/** Public addresses that cannot be a peer's, for every backend that has packets carried. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Backend } from "../../src/backend/backend.ts";
import { extensionBackend } from "../../src/backend/extension.ts";
import { hostGwBackend } from "../../src/backend/host_gw.ts";
import { ipipBackend } from "../../src/backend/ipip.ts";
import { udpBackend } from "../../src/backend/udp.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import { userspaceVxlanBackend } from "../../src/backend/vxlan_userspace.ts";
import { type Lease, parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { configOf, inputOf, leaseOf, LINK } from "./sample.ts";

const BACKENDS: readonly (readonly [name: string, backend: Backend])[] = [
  ["udp", udpBackend],
  ["vxlan in the kernel", vxlanBackend],
  ["vxlan in user space", userspaceVxlanBackend],
  ["host-gw", hostGwBackend],
  ["ipip", ipipBackend],
  ["extension", extensionBackend],
];

const PUBLIC = IpAddress.parse("203.0.113.1");
/** Peers are told another address than the interface has. */
const LINK_BEHIND_NAT = { ...LINK, publicAddresses: [PUBLIC] };

const BAD: readonly (readonly [address: string, reason: string])[] = [
  ["255.255.255.255", "is not a host's: it is a broadcast or reserved address"],
  ["192.0.2.255", "is not a host's: it is the broadcast address of eth0"],
  ["224.0.0.9", "is not a host's: it is a multicast address"],
  ["127.0.0.2", "is not a host's: it is a loopback address"],
  ["0.0.0.0", "is not a host's: it is unspecified"],
  ["192.0.2.1", "is ours, on eth0"],
];

for (const [name, backend] of BACKENDS) {
  describe(`a peer of ${name} is left out by its public address`, () => {
    const data = { 4: name.startsWith("vxlan") ? { VNI: 1, VtepMAC: "02:00:00:00:00:66" } : "" };
    const skippedOf = (address: string, link = LINK_BEHIND_NAT) => {
      const peer = leaseOf("10.210.66.0-24", [address], backend.type, data);
      const input = inputOf(configOf({ Type: backend.type }), [peer], { link });
      return backend.plan(input).skipped;
    };
    for (const [address, reason] of BAD) {
      test(address, () => {
        const expected = [{
          key: "10.210.66.0-24",
          reason: `its public address ${address} ${reason}`,
        }];
        assert.deepEqual(skippedOf(address), expected);
      });
    }

    test("our own public address", () => {
      const expected = [{ key: "10.210.66.0-24", reason: `it has our public address ${PUBLIC}` }];
      assert.deepEqual(skippedOf(`${PUBLIC}`), expected);
    });

    test("an address of another interface of this host", () => {
      const own = IpAddress.parse("192.0.2.77");
      const peer = leaseOf("10.210.66.0-24", [`${own}`], backend.type, data);
      const link = { ...LINK, localAddresses: [...LINK.addresses, own] };
      const { skipped } = backend.plan(inputOf(configOf({ Type: backend.type }), [peer], { link }));
      const reason = `its public address ${own} is this host's own`;
      assert.deepEqual(skipped, [{ key: "10.210.66.0-24", reason }]);
    });

    test("and served by another", () => {
      assert.deepEqual(skippedOf("192.0.2.66"), []);
    });
  });

  describe(`a reservation for a host of ${name} whose host has not come yet`, () => {
    const reserved: Lease = {
      ...leaseOf("10.210.66.0-24", ["192.0.2.66"], backend.type),
      awaitsHost: true,
    };
    const planOf = (peer: Lease) => backend.plan(inputOf(configOf({ Type: backend.type }), [peer]));

    test("is left out as what it is, also if it was made for another backend", () => {
      const reason = "it is reserved, and its host has not come yet";
      for (const peer of [reserved, { ...reserved, backendType: "alloc" }]) {
        assert.deepEqual(planOf(peer).skipped, [{ key: "10.210.66.0-24", reason }]);
      }
    });

    test("is left out for a fault that does not go when the host comes", () => {
      const outside = parseLeaseKey("10.66.0.0-24");
      const { skipped } = planOf({ ...reserved, subnets: outside });
      assert.deepEqual(skipped, [{ key: "10.66.0.0-24", reason: "it lies outside the network" }]);
    });

    test("is served once its host has written it, with Selvage or with flannel", () => {
      const data = name.startsWith("vxlan") ? { VNI: 1, VtepMAC: "02:00:00:00:00:66" } : "";
      const { awaitsHost: _gone, ...come } = { ...reserved, backendData: { 4: data } };
      const node = { id: "0123456789abcdef", run: "" };
      for (const peer of [come, { ...come, node }]) assert.deepEqual(planOf(peer).skipped, []);
    });
  });
}
