import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { KnownLeases } from "../../src/agent/known_leases.ts";
import type { Network } from "../../src/agent/network.ts";
import { NodeMemory, startNotice } from "../../src/agent/node_memory.ts";
import {
  age_ms,
  bootId,
  formatLeaseFile,
  formatPeersFile,
  parseLeaseFile,
  parsePeersFile,
  refusal,
} from "../../src/agent/remembered_state.ts";
import { MACHINE_CLOCK, timeOfDay_ms } from "../../src/clock.ts";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { type Lease, parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";

const HOUR_MS = 3600_000;
const CONFIG = parseNetworkConfig('{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}', "test");
const ADDRESSES = [IpAddress.parse("192.0.2.1")];

function lease(key: string, changes: Partial<Lease> = {}): Lease {
  return {
    subnets: parseLeaseKey(key),
    publicAddresses: ADDRESSES,
    backendType: "vxlan",
    backendData: { 4: { VNI: 1, VtepMAC: "ea:18:5c:b2:85:01" } },
    expiry_ms: undefined,
    ...changes,
  };
}

const moment = (boot: string, hours: number, steadyHours: number) => ({
  boot,
  now_ms: hours * HOUR_MS,
  steady_ms: steadyHours * HOUR_MS,
});

test("a start without the store counts no reservation whose host has not come", () => {
  const reserved = { publicAddresses: [IpAddress.parse("192.0.2.3")], expiry_ms: null };
  const peers = [
    lease("10.1.6.0-24", { publicAddresses: [IpAddress.parse("192.0.2.2")] }),
    lease("10.1.7.0-24", { ...reserved, backendData: {}, awaitsHost: true }),
  ];
  const leases = new KnownLeases();
  // As they are read from the file.
  leases.remember(parsePeersFile(formatPeersFile("s", peers), "test", "s"));
  const keeper = { lease: lease("10.1.5.0-24"), lostSince_ms: null, isOwn: () => false };
  assert.match(startNotice(keeper, leases), /its lease 10\.1\.5\.0-24 and 1 peer\b/);
});

describe("the age of a remembered lease", () => {
  const taken = moment("a", 1000, 50);
  test("within one boot the steady clock counts, whatever the time of day", () => {
    assert.equal(age_ms(taken, moment("a", 9999, 53)), 3 * HOUR_MS);
    assert.equal(age_ms(taken, moment("a", 1, 53)), 3 * HOUR_MS);
  });
  test("after a new boot the time of day counts", () => {
    assert.equal(age_ms(taken, moment("b", 1005, 0.1)), 5 * HOUR_MS);
  });
  test("a clock that starts in 1970 leaves at least the time since the boot", () => {
    assert.equal(age_ms(taken, moment("b", 0, 0.5)), 0.5 * HOUR_MS);
    assert.equal(age_ms(taken, moment("b", 30, 30)), 30 * HOUR_MS);
  });
  test("a kernel that names no boot is as a new boot", () => {
    assert.equal(age_ms(moment("", 1000, 50), moment("", 1005, 51)), 51 * HOUR_MS);
  });
});

describe("a remembered lease", () => {
  const remembered = { storeIdentity: "s", lease: lease("10.1.5.0-24"), config: CONFIG };
  const taken = moment("a", 1000, 50);
  const why = (changes: object, now = moment("a", 1001, 51)) =>
    refusal({ ...remembered, taken, ...changes }, { storeIdentity: "s", now });

  test("is used until it ends; a reservation does not end", () => {
    assert.equal(why({}), null);
    assert.equal(why({}, moment("a", 1000, 73.9)), null);
    assert.match(why({}, moment("a", 1000, 74))!, /has ended/);
    assert.equal(
      why({ lease: lease("10.1.5.0-24", { expiry_ms: null }) }, moment("a", 1, 999)),
      null,
    );
  });
  test("is not used for another store, or outside the network", () => {
    assert.match(why({ storeIdentity: "t" })!, /another store/);
    assert.match(why({ lease: lease("10.2.5.0-24") })!, /not lie in the network/);
  });
  test("comes back from its file as it was", () => {
    const text = formatLeaseFile({ ...remembered, taken });
    assert.deepEqual(parseLeaseFile(text, "x"), { ...remembered, taken });
    assert.throws(() => parseLeaseFile(text.replace('"version":1', '"version":2'), "x"));
    assert.throws(() => parseLeaseFile("{", "x"), /x: not JSON/);
  });
});

test("peers come back from their file, without those that cannot be read", () => {
  const peers = [lease("10.1.6.0-24"), lease("10.1.7.0-24", { expiry_ms: null })];
  const text = formatPeersFile("s", peers);
  assert.deepEqual(parsePeersFile(text, "x", "s"), peers);
  assert.deepEqual(parsePeersFile(text, "x", "t"), []);
  const broken = text.replace("10.1.6.0-24", "nonsense");
  assert.deepEqual(parsePeersFile(broken, "x", "s"), [peers[1]]);
});

function withMemory(
  run: (directory: string, memory: NodeMemory, peers: Lease[]) => void,
  storeIdentity: string | null = "s",
): void {
  const stateDir = mkdtempSync(join(tmpdir(), "selvage-test-"));
  const peers: Lease[] = [];
  try {
    run(stateDir, new NodeMemory({ stateDir, storeIdentity, peers: () => peers }), peers);
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
}

const judge = (config: NetworkConfig) => ({ config }) as Network;

test("a lease is written at once, and recalled with its age by the next start", () =>
  withMemory((stateDir, memory) => {
    assert.equal(memory.recall(ADDRESSES, judge), null);
    const taken_ms = MACHINE_CLOCK.steady_ms() - 5 * HOUR_MS;
    memory.keepLease({ lease: lease("10.1.5.0-24"), taken_ms }, CONFIG);
    assert.equal(statSync(join(stateDir, "last_lease.json")).mode & 0o777, 0o600);
    const options = { stateDir, storeIdentity: "s", peers: () => [] };
    const next = new NodeMemory(options);
    assert.equal(`${next.previousSubnets}`, "10.1.5.0/24");
    const start = next.recall(ADDRESSES, judge)!;
    assert.equal(`${start.lease.subnets}`, "10.1.5.0/24");
    assert.ok(Math.abs(start.taken_ms - taken_ms) < 60_000 || bootId() === "");
    // Another address, another store, a configuration that this host cannot obey.
    assert.equal(next.recall([IpAddress.parse("192.0.2.9")], judge), null);
    const other = new NodeMemory({ ...options, storeIdentity: "t" });
    assert.equal(other.recall(ADDRESSES, judge), null);
    assert.equal(`${other.previousSubnets}`, "10.1.5.0/24");
    const refuse = () => {
      throw new Error("no such backend here");
    };
    assert.equal(next.recall(ADDRESSES, refuse), null);
    next.forget();
    assert.ok(!existsSync(join(stateDir, "last_lease.json")));
  }));

test("peers that come and go are written once a minute, renewals not at all", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  withMemory((stateDir, memory, peers) => {
    const path = join(stateDir, "last_peers.json");
    const take = () => {
      const text = existsSync(path) ? readFileSync(path, "utf8") : null;
      rmSync(path, { force: true });
      return text;
    };
    peers.push(lease("10.1.6.0-24"));
    memory.peersChanged();
    assert.equal(take(), null);
    context.mock.timers.tick(2_000);
    assert.match(take()!, /10\.1\.6\.0-24/);
    // A minute of changes, one each second: a single write at its end.
    for (let i = 0; i < 59; i++) {
      peers.push(lease(`10.1.${100 + i}.0-24`));
      memory.peersChanged();
      context.mock.timers.tick(1_000);
      assert.equal(take(), null, `written after ${i} s`);
    }
    context.mock.timers.tick(1_000);
    assert.match(take()!, /10\.1\.158\.0-24/);
    peers[0] = lease("10.1.6.0-24", { expiry_ms: 1234 });
    memory.peersChanged();
    context.mock.timers.tick(3600_000);
    assert.equal(take(), null);
    // What is not written yet is written at the end.
    peers.pop();
    memory.peersChanged();
    memory.close();
    assert.doesNotMatch(take()!, /10\.1\.158\.0-24/);
  });
  context.mock.timers.reset();
});

test("a disk that takes nothing is a problem that is told, and mends itself", () =>
  withMemory((stateDir) => {
    const file = join(stateDir, "file");
    writeFileSync(file, "");
    const memory = new NodeMemory({ stateDir: file, storeIdentity: "s", peers: () => [] });
    const held = { lease: lease("10.1.5.0-24"), taken_ms: MACHINE_CLOCK.steady_ms() };
    memory.keepLease(held, CONFIG);
    assert.match(memory.problem!, /cannot remember its lease and peers: .*last_lease\.json/);
    rmSync(file);
    memory.keepLease(held, CONFIG);
    assert.equal(memory.problem, null);
  }));

test("a state directory that is deleted is written again, before the next renewal", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  withMemory((stateDir, memory, peers) => {
    const has = () =>
      ["last_lease.json", "last_peers.json"].map((n) => existsSync(join(stateDir, n)));
    memory.check();
    assert.deepEqual(has(), [false, false], "nothing was written yet");
    memory.keepLease({ lease: lease("10.1.5.0-24"), taken_ms: MACHINE_CLOCK.steady_ms() }, CONFIG);
    peers.push(lease("10.1.6.0-24"));
    memory.peersChanged();
    context.mock.timers.tick(2_000);
    assert.deepEqual(has(), [true, true]);
    rmSync(stateDir, { recursive: true });
    memory.check();
    context.mock.timers.tick(60_000);
    assert.deepEqual(has(), [true, true]);
    memory.forget();
    memory.check();
    assert.deepEqual(has(), [false, false], "what was forgotten stays so");
  });
  context.mock.timers.reset();
});

test("a disk that takes nothing for a while is tried again, each file by itself", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  withMemory((parent) => {
    const stateDir = join(parent, "file");
    writeFileSync(stateDir, "");
    const peers = [lease("10.1.6.0-24")];
    const memory = new NodeMemory({ stateDir, storeIdentity: "s", peers: () => peers });
    memory.keepLease({ lease: lease("10.1.5.0-24"), taken_ms: MACHINE_CLOCK.steady_ms() }, CONFIG);
    memory.peersChanged();
    context.mock.timers.tick(2_000);
    rmSync(stateDir);
    // The peers are written; that the lease is not stays a problem until it is, too.
    context.mock.timers.tick(10_000);
    assert.ok(existsSync(join(stateDir, "last_peers.json")));
    assert.match(memory.problem!, /last_lease\.json/);
    memory.check();
    assert.ok(existsSync(join(stateDir, "last_lease.json")));
    assert.equal(memory.problem, null);
    memory.close();
  });
  context.mock.timers.reset();
});

test("peers that a disk refuses for long are written soon after it works again", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  withMemory((parent) => {
    const stateDir = join(parent, "state");
    const peers = [lease("10.1.6.0-24")];
    const memory = new NodeMemory({ stateDir, storeIdentity: "s", peers: () => peers });
    memory.peersChanged();
    context.mock.timers.tick(2_000);
    rmSync(stateDir, { recursive: true });
    writeFileSync(stateDir, "");
    peers.push(lease("10.1.7.0-24"));
    memory.peersChanged();
    // The minute between two writes, and many tries that fail.
    context.mock.timers.tick(300_000);
    assert.match(memory.problem!, /last_peers\.json/);
    rmSync(stateDir);
    context.mock.timers.tick(10_000);
    assert.equal(memory.problem, null);
    assert.match(readFileSync(join(stateDir, "last_peers.json"), "utf8"), /10\.1\.7\.0-24/);
    memory.close();
  });
  context.mock.timers.reset();
});

test("durations stay true after the time of day was set", () => {
  const clock = {
    now: 1_000_000,
    steady: 500,
    now_ms: () => clock.now,
    steady_ms: () => clock.steady,
  };
  const began_ms = clock.steady;
  clock.steady += 3_000;
  clock.now = 900_000_000_000;
  assert.equal(clock.now - timeOfDay_ms(began_ms, clock), 3_000);
});
