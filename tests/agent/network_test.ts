import { test } from "node:test";
import assert from "node:assert/strict";
import { awaitNetwork, isFinal, judgeNetwork, leaseOverlap } from "../../src/agent/network.ts";
import { ANY_HOST } from "../../src/backend/select.ts";
import { SelvageError } from "../../src/errors.ts";
import type { OuterLink } from "../../src/kernel/outer_link.ts";
import type { Surrounding } from "../../src/kernel/surroundings.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { StoreState } from "../../src/store/store.ts";
import { FakeStore } from "../api/fake_control.ts";

const LINK: OuterLink = {
  name: "eth0",
  index: 2,
  mtu_bytes: 1500,
  addresses: [IpAddress.parse("192.0.2.1")],
  publicAddresses: [IpAddress.parse("192.0.2.1")],
  ways: [],
};

class StoreOfKind extends FakeStore {
  constructor(readonly kind: string) {
    super();
  }
  override state(): StoreState {
    return { ...super.state(), kind: this.kind };
  }
}

function wait(
  store: FakeStore,
  onWaiting: (phase: string, reason: string) => void,
  whyNotMade: () => string | null = () => null,
  hasLeftovers = () => false,
) {
  const { signal } = new AbortController();
  return awaitNetwork(store, () => LINK, ANY_HOST, signal, whyNotMade, hasLeftovers, onWaiting);
}

test("a device that cannot be made is waited for", async () => {
  const obstacles = ["VNI 1 is in use", null];
  const told: string[] = [];
  const onWaiting = (phase: string, reason: string) => told.push(`${phase}: ${reason}`);
  await wait(new FakeStore(), onWaiting, () => obstacles.shift()!);
  assert.deepEqual(told, ["starting: VNI 1 is in use"]);
});

test("a wrong password of etcd is waited for, a join string that is refused is not", async () => {
  const wrong = new SelvageError("unauthorized", "wrong user or password");
  const registry = new StoreOfKind("remote");
  registry.failure = wrong;
  await assert.rejects(wait(registry, () => {}), wrong);

  const etcd = new StoreOfKind("etcd");
  const failures = [wrong, new SelvageError("forbidden", "no rights"), null];
  etcd.failure = failures.shift()!;
  const told: string[] = [];
  const network = await wait(
    etcd,
    (phase, reason) => {
      told.push(`${phase}: ${reason}`);
      etcd.failure = failures.shift()!;
    },
    undefined,
    () => told.length > 0,
  );
  assert.equal(network.backend.type, "udp");
  assert.equal(told.length, 2);
  assert.match(told[0]!, /^waiting_for_store: wrong user or password$/);
  assert.match(
    told[1]!,
    /^waiting_for_store: no rights; until .* that an earlier run left .* does not repair/,
  );
  assert.equal(isFinal(etcd, wrong), false);
});

for (const [kind, name] of [["remote", "the registry"], ["etcd", "etcd"]] as const) {
  test(`a start says that ${name} is silent, before the call fails`, async () => {
    const store = new StoreOfKind(kind);
    const answer = Promise.withResolvers<void>();
    const read = store.readConfig.bind(store);
    store.readConfig = async () => {
      await answer.promise;
      return await read();
    };
    const told: string[] = [];
    await wait(store, (phase, reason) => {
      told.push(`${phase}: ${reason}`);
      answer.resolve();
    });
    const { location } = store.state();
    assert.equal(told.length, 1);
    const start = `waiting_for_store: ${name} at ${location} has not answered yet; `;
    assert.ok(told[0]!.startsWith(start));
  });
}

const GATEWAY: Surrounding = {
  what: "the default gateway 10.0.0.1",
  prefix: IpPrefix.parse("10.0.0.1/32"),
  routeLength: 0,
  ownAddress: null,
  mayBeContainers: false,
};
const OTHER_NETWORK: Surrounding = {
  what: "the network 10.20.0.0/16 of eth1",
  prefix: IpPrefix.parse("10.20.0.0/16"),
  routeLength: 16,
  ownAddress: IpAddress.parse("10.20.0.1"),
  mayBeContainers: true,
};
const CONTAINER_BRIDGE: Surrounding = {
  ...OTHER_NETWORK,
  what: "the network 10.30.5.0/24 of cni0",
  prefix: IpPrefix.parse("10.30.5.0/24"),
  routeLength: 24,
};

function judge(value: Record<string, unknown>, ...surroundings: Surrounding[]) {
  const config = parseNetworkConfig(JSON.stringify({ Network: "10.0.0.0/8", ...value }), "test");
  return judgeNetwork(config, LINK, { ...ANY_HOST, surroundings: () => surroundings });
}

test("a network routed as a whole must not hold what the host needs", () => {
  const whole = [
    { Type: "udp" },
    { Type: "vxlan", Datapath: "userspace" },
    { Type: "vxlan", Generation: 2 },
    { Type: "vxlan", Generation: 1 },
  ];
  for (const Backend of whole) {
    assert.throws(() => judge({ Backend }, GATEWAY, OTHER_NETWORK), {
      code: "conflict",
      message:
        /10\.0\.0\.0\/8 is routed .* cut .* off from the default gateway 10.0.0.1, the network/,
      hint: /--allow-network-overlap/,
    });
    judge({ Backend }, CONTAINER_BRIDGE);
    assert.throws(() => judge({ Backend, SubnetMin: "10.40.0.0" }, GATEWAY));
    judge({ Backend, Network: "10.99.0.0/16" }, GATEWAY, OTHER_NETWORK);
  }
});

test("a network whose subnets are routed one by one may hold it outside of these", () => {
  for (const Type of ["vxlan", "host-gw", "ipip"]) {
    const example = { SubnetLen: 20, SubnetMin: "10.10.0.0", SubnetMax: "10.99.0.0" };
    const network = judge({ Backend: { Type }, ...example }, GATEWAY, OTHER_NETWORK);
    assert.deepEqual(network.surroundings, [GATEWAY, OTHER_NETWORK]);
    assert.throws(() => judge({ Backend: { Type } }, GATEWAY), /cut this host off from/);
    const own = { subnets: [IpPrefix.parse("10.20.16.0/20")] };
    assert.match(
      leaseOverlap(network, own)!,
      /subnet 10\.20\.16\.0\/20 overlaps the network 10\.20/,
    );
    assert.equal(leaseOverlap(network, { subnets: [IpPrefix.parse("10.30.0.0/20")] }), null);
  }
});

test("no hint advises a flag that does not help: the outer address is in the network", () => {
  for (const Type of ["udp", "vxlan", "host-gw"]) {
    assert.throws(() => judge({ Network: "192.0.2.0/23", SubnetLen: 28, Backend: { Type } }), {
      code: "conflict",
      message: /the outer address 192\.0\.2\.1 lies in the overlay's network/,
      hint: /--allow-network-overlap does not allow this/,
    });
  }
});
