import assert from "node:assert/strict";
import { test } from "node:test";
import { isTakenBy, listSurroundings, type VitalAddress } from "../../src/kernel/surroundings.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { addAddressRequest } from "../../src/netlink/address.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";
import { FakeKernel } from "./fake_kernel.ts";

const LINKS = [
  { index: 1, name: "lo" },
  { index: 2, name: "eth0" },
  { index: 3, name: "docker0", kind: "bridge" },
  { index: 4, name: "selvage.1", kind: "vxlan" },
  { index: 5, name: "flannel.1", kind: "vxlan" },
];

function host(): FakeKernel {
  const kernel = new FakeKernel(LINKS);
  const addresses: [number, string, number][] = [
    [1, "127.0.0.1", 8],
    [2, "10.1.0.5", 16],
    [2, "fe80::1", 64],
    [3, "172.17.0.1", 16],
    [4, "10.210.5.0", 24],
    [5, "10.244.5.0", 16],
    [2, "10.1.0.222", 32],
  ];
  for (const [linkIndex, text, prefixLength] of addresses) {
    const entry = { linkIndex, linkName: "", address: IpAddress.parse(text), prefixLength };
    kernel.addresses.push(addAddressRequest(entry, false).payload);
  }
  const routes: [string, string, number][] = [
    ["0.0.0.0/0", "10.1.0.1", 3],
    ["203.0.113.0/24", "10.1.0.2", 3],
    // Ours: what it hides is what must be found.
    ["203.0.113.53/32", "10.210.6.0", 83],
  ];
  for (const [destination, gateway, protocol] of routes) {
    kernel.routes.push(
      addRouteRequest({
        destination: IpPrefix.parse(destination),
        linkIndex: 2,
        linkName: "eth0",
        gateway: IpAddress.parse(gateway),
        protocol,
      }, false).payload,
    );
  }
  return kernel;
}

const vital = (what: string, text: string): VitalAddress => ({
  what: `${what} ${text}`,
  address: IpAddress.parse(text),
});

test("a host's surroundings are its networks, its gateway, and what it is told of", () => {
  const found = listSurroundings(host().connection, [
    vital("etcd", "203.0.113.53"),
    vital("the resolver", "198.51.100.53"),
    vital("the resolver", "127.0.0.53"),
    vital("the registry", "10.1.0.5"),
  ]);
  assert.deepEqual(found.map(({ what, routeLength }) => [what, routeLength]), [
    ["the network 10.1.0.0/16 of eth0", 16],
    ["the network 172.17.0.0/16 of docker0", 16],
    ["the default gateway 10.1.0.1", 16],
    ["etcd 203.0.113.53", 24],
    ["the resolver 198.51.100.53", 0],
  ]);
  assert.deepEqual(found.map(({ mayBeContainers }) => mayBeContainers).indexOf(true), 1);
});

test("a route takes what no longer prefix leads to", () => {
  const [network, , gateway, etcd, resolver] = listSurroundings(host().connection, [
    vital("etcd", "203.0.113.53"),
    vital("the resolver", "198.51.100.53"),
  ]);
  const taken = (route: string) =>
    [network!, gateway!, etcd!, resolver!].map((one) => isTakenBy(one, IpPrefix.parse(route)));
  assert.deepEqual(taken("10.0.0.0/8"), [false, false, false, false]);
  assert.deepEqual(taken("10.1.0.0/16"), [true, true, false, false]);
  assert.deepEqual(taken("10.1.7.0/24"), [true, false, false, false]);
  assert.deepEqual(taken("203.0.0.0/8"), [false, false, false, false]);
  assert.deepEqual(taken("203.0.113.0/24"), [false, false, true, false]);
  assert.deepEqual(taken("198.0.0.0/8"), [false, false, false, true]);
});
