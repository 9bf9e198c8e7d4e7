import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { allocate } from "../../src/lease/allocator.ts";
import { type Lease, type LeaseAttributes, leaseKey } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import { lease, networkConfig, node, nodeNumber, seededRandom } from "./sample.ts";

const ME = node("192.0.2.1");
const OTHER = node("192.0.2.2");

interface Outcome {
  readonly key: string;
  readonly isHeld: boolean;
  readonly deleted: readonly string[];
}

function run(
  config: NetworkConfig,
  leases: Lease[],
  options: { me?: LeaseAttributes; previous?: string[]; random?: () => number } = {},
): Outcome {
  const previousSubnets = (options.previous ?? []).map((text) => IpPrefix.parse(text));
  const request = { attributes: options.me ?? ME, previousSubnets };
  const result = allocate(config, leases, request, options.random ?? (() => 0));
  return {
    key: leaseKey(result.subnets),
    isHeld: result.held !== null,
    deleted: result.deletedKeys,
  };
}

describe("the allocator", () => {
  const config = networkConfig({ Network: "10.5.0.0/16" });
  const dual = networkConfig({
    EnableIPv6: true,
    Network: "10.5.0.0/16",
    IPv6Network: "fd00::/48",
  });
  const held = (key: string) => ({ key, isHeld: true, deleted: [] });
  const fresh = (key: string, ...deleted: string[]) => ({ key, isHeld: false, deleted });

  test("keeps what the node holds, whatever it held before", () => {
    const leases = [lease("10.5.3.0-24", OTHER), lease("10.5.9.0-24", ME)];
    assert.deepEqual(run(config, leases, { previous: ["10.5.4.0/24"] }), held("10.5.9.0-24"));
  });

  test("replaces what the configuration no longer allows", () => {
    const narrow = networkConfig({
      Network: "10.5.0.0/16",
      SubnetMin: "10.5.8.0",
      SubnetMax: "10.5.15.0",
    });
    for (const key of ["10.5.7.0-24", "10.5.16.0-24", "10.5.9.0-25", "10.6.9.0-24"]) {
      assert.deepEqual(run(narrow, [lease(key, ME)]), fresh("10.5.8.0-24", key), key);
    }
    assert.deepEqual(run(narrow, [lease("10.5.15.0-24", ME)]), held("10.5.15.0-24"));
  });

  test("keeps of two families the one that still fits", () => {
    assert.deepEqual(
      run(dual, [lease("10.5.9.0-24", ME)]),
      fresh("10.5.9.0-24&fd00:0:0:1::-64", "10.5.9.0-24"),
    );
    assert.deepEqual(
      run(config, [lease("10.5.9.0-24&fd00:0:0:7::-64", ME)]),
      fresh("10.5.9.0-24", "10.5.9.0-24&fd00:0:0:7::-64"),
    );
  });

  test("takes a previous subnet only if it is free and allowed", () => {
    const leases = [lease("10.5.4.0-24", OTHER), lease("10.5.6.0-23", OTHER)];
    const rows: [string, string][] = [
      ["10.5.5.0/24", "10.5.5.0-24"],
      ["10.5.4.0/24", "10.5.1.0-24"], // held
      ["10.5.7.0/24", "10.5.1.0-24"], // inside a larger one that is held
      ["10.5.5.0/25", "10.5.1.0-24"], // another length
      ["10.5.0.0/24", "10.5.1.0-24"], // below the lowest
      ["10.9.5.0/24", "10.5.1.0-24"], // elsewhere
      ["fd00:0:0:5::/64", "10.5.1.0-24"], // a family that is off
    ];
    for (const [previous, expected] of rows) {
      assert.deepEqual(run(config, leases, { previous: [previous] }), fresh(expected), previous);
    }
    const previous = ["10.5.5.0/24", "fd00:0:0:5::/64"];
    assert.deepEqual(run(dual, leases, { previous }), fresh("10.5.5.0-24&fd00:0:0:5::-64"));
  });

  test("uses the node's reservation, even outside of min and max, and before its lease", () => {
    const reserved = lease("10.5.0.0-25", ME, null);
    assert.deepEqual(run(config, [reserved]), held("10.5.0.0-25"));
    const both = [reserved, lease("10.5.9.0-24", ME)];
    const result = { key: "10.5.0.0-25", isHeld: true, deleted: ["10.5.9.0-24"] };
    assert.deepEqual(run(config, both), result);
  });

  test("never deletes a reservation, even one that cannot be used", () => {
    const elsewhere = lease("10.9.0.0-24", ME, null);
    assert.deepEqual(run(config, [elsewhere]), fresh("10.5.1.0-24"));
    const sixless = lease("10.5.1.0-24", ME, null);
    assert.deepEqual(run(dual, [sixless]), fresh("10.5.2.0-24&fd00:0:0:1::-64"));
  });

  test("knows a node by its IPv4 address, and by its IPv6 address if it has none", () => {
    const six = networkConfig({ EnableIPv4: false, EnableIPv6: true, IPv6Network: "fd00::/48" });
    const leases = [lease("fd00:0:0:9::-64", node("2001:db8::9"))];
    assert.deepEqual(run(six, leases, { me: node("2001:db8::9") }), held("fd00:0:0:9::-64"));
    assert.deepEqual(run(six, leases, { me: node("2001:db8::8") }), fresh("fd00:0:0:1::-64"));
    const moved = node("192.0.2.1", "2001:db8::9");
    assert.deepEqual(run(six, leases, { me: moved }), fresh("fd00:0:0:1::-64"));
  });

  test("says with the figures that the network is full", () => {
    const tiny = networkConfig({ Network: "10.9.9.0/28" });
    const leases = ["10.9.9.4-30", "10.9.9.8-29"].map((key) => lease(key, OTHER));
    assert.throws(() => run(tiny, leases), {
      code: "out_of_subnets",
      message: "all 3 subnets of length /30 from 10.9.9.4 to 10.9.9.12 in 10.9.9.0/28 are taken, " +
        "many of them by 10.9.9.8-29",
    });
    // What this node has to give up makes room for it.
    leases[1] = lease("10.9.9.8-29", ME);
    assert.deepEqual(run(tiny, leases), fresh("10.9.9.8-30", "10.9.9.8-29"));
  });

  test("chooses every free subnet, evenly, and no other (against a naive twin, seed 77)", () => {
    const random = seededRandom(77);
    const small = networkConfig({ Network: "10.9.8.0/22", SubnetLen: 28, SubnetMin: "10.9.8.64" });
    for (let round = 0; round < 30; round++) {
      const leases = randomLeases(random, 24);
      const free = naiveFree(small, leases);
      const counts = new Map(free.map((key) => [key, 0]));
      for (let i = 0; i < free.length; i++) {
        // One number from the middle of each free subnet's share meets each once.
        const { key } = run(small, leases, { random: () => (i + 0.5) / free.length });
        const count = counts.get(key);
        assert.ok(count !== undefined, `${key} is not free (round ${round})`);
        counts.set(key, count + 1);
      }
      assert.deepEqual([...counts.values()], free.map(() => 1), `round ${round}`);
    }
  });

  test("is fast in a /8 cut in /24s with one subnet left", () => {
    const large = networkConfig({ Network: "10.0.0.0/8" });
    const leases: Lease[] = [];
    for (let n = 1; n < 65_536; n++) {
      if (n === 40_000) continue;
      leases.push({ ...nodeNumber(n), subnets: [slash24(n)], expiry_ms: 1 });
    }
    const start_ms = performance.now();
    assert.deepEqual(run(large, leases, { random: () => 0.999 }), fresh("10.156.64.0-24"));
    const took_ms = performance.now() - start_ms;
    assert.ok(took_ms < 1000, `it took ${took_ms} ms`);
  });

  test("spreads over all of a large IPv6 network", () => {
    const large = networkConfig({ EnableIPv4: false, EnableIPv6: true, IPv6Network: "fd00::/8" });
    const random = seededRandom(4);
    const seen = new Set<string>();
    const leases: Lease[] = [];
    for (let n = 0; n < 200; n++) {
      const { key } = run(large, leases, { me: nodeNumber(n), random });
      leases.push(lease(key, nodeNumber(n)));
      seen.add(key.slice(0, 3));
    }
    assert.equal(new Set(leases.map((one) => leaseKey(one.subnets))).size, 200);
    assert.ok(seen.size >= 2);
    const last = run(large, [], { random: () => 1 - 2 ** -32 });
    assert.match(last.key, /^fdff:ffff:/);
  });
});

function slash24(n: number): IpPrefix {
  return IpPrefix.of(IpAddress.of(4, (10n << 24n) | (BigInt(n) << 8n)), 24);
}

/** Leases of several lengths in and around 10.9.8.0/22; they may overlap each other. */
function randomLeases(random: () => number, countMax: number): Lease[] {
  return Array.from({ length: Math.floor(random() * countMax) }, (_, n) => {
    const value = (10n << 24n) | (9n << 16n) | BigInt(Math.floor(0x780 + random() * 0x500));
    const length = 25 + Math.floor(random() * 6);
    const subnets = [IpPrefix.of(IpAddress.of(4, value), length)];
    return { ...nodeNumber(n), subnets, expiry_ms: random() < 0.3 ? null : 1 };
  });
}

/** All free subnets, one by one. */
function naiveFree(config: NetworkConfig, leases: readonly Lease[]): string[] {
  const [range] = config.ranges;
  assert.ok(range !== undefined);
  const free: string[] = [];
  const size = 1n << BigInt(32 - range.subnetLength);
  for (let at = range.subnetMin; at.compare(range.subnetMax) <= 0; at = at.add(size)) {
    const subnet = IpPrefix.of(at, range.subnetLength);
    const isTaken = leases.some((lease) => lease.subnets.some((taken) => taken.overlaps(subnet)));
    if (!isTaken) free.push(leaseKey([subnet]));
    if (at.equals(range.subnetMax)) break;
  }
  return free;
}
