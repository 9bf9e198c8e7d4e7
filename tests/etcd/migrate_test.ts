import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { migrate, type MigrationOptions, type MigrationReport } from "../../src/etcd/migrate.ts";
import type { MigrationSource } from "../../src/etcd/migrate_plan.ts";
import { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { type Lease, leaseKey } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { FakeServer, type Fate } from "./fake_etcd.ts";

const PREFIX = "/coreos.com/network";
const CONFIG = '{"Network":"10.5.0.0/16"}';
const NOW_MS = Date.UTC(2026, 0, 2);
const HOUR_S = 3600;

function lease(subnet: string, address: string, left_s: number | null): Lease {
  return {
    subnets: [IpPrefix.parse(subnet)],
    publicAddresses: [IpAddress.parse(address)],
    backendType: "udp",
    backendData: {},
    expiry_ms: left_s === null ? null : NOW_MS + left_s * 1000,
  };
}

const SOURCE: MigrationSource = {
  configText: CONFIG,
  leases: [
    lease("10.5.1.0/24", "192.0.2.1", HOUR_S),
    lease("10.5.2.0/24", "192.0.2.2", null),
    lease("10.5.3.0/24", "192.0.2.3", 23 * HOUR_S),
  ],
};

const key = (name: string) => `${PREFIX}/subnets/${name}`;
const value = (address: string) => `{"PublicIP":"${address}","PublicIPv6":null}`;
const newServer = () => new FakeServer(() => NOW_MS);

function run(
  server: FakeServer,
  options: Partial<MigrationOptions> = {},
): Promise<MigrationReport> {
  return migrate({
    etcd: server.client(),
    prefix: PREFIX,
    source: SOURCE,
    isForced: false,
    isDryRun: false,
    now_ms: () => NOW_MS,
    ...options,
  });
}

/** Key, value and seconds left (null: for ever) of all leases. */
function leasesOf(server: FakeServer): [string, string, number | null][] {
  return server.under(`${PREFIX}/subnets/`).map(({ key: at, value: text, leaseId }) => [
    at.slice(key("").length),
    text,
    leaseId === 0n ? null : server.findLease(leaseId)!.ttl_s,
  ]);
}

const MIGRATED: [string, string, number | null][] = [
  ["10.5.1.0-24", value("192.0.2.1"), HOUR_S],
  ["10.5.2.0-24", value("192.0.2.2"), null],
  ["10.5.3.0-24", value("192.0.2.3"), 23 * HOUR_S],
];

describe("migration", () => {
  test("leases with their time, reservations for ever, the configuration last", async () => {
    const server = newServer();
    const progress: number[] = [];
    const report = await run(server, { onProgress: (done) => progress.push(done) });
    assert.deepEqual(leasesOf(server), MIGRATED);
    const config = server.entry(`${PREFIX}/config`);
    assert.deepEqual([config?.value, config?.modRevision], [CONFIG, server.revision]);
    assert.deepEqual(report.counts, {
      lease: { created: 2, same: 0, extended: 0, overwritten: 0 },
      reservation: { created: 1, same: 0, extended: 0, overwritten: 0 },
      configuration: { created: 1, same: 0, extended: 0, overwritten: 0 },
    });
    assert.deepEqual([report.done, report.conflicts, progress], [true, [], [1, 2, 3, 4]]);
    assert.equal(server.grantIds.length, 2);
  });

  test("once more: nothing is written", async () => {
    const server = newServer();
    await run(server);
    const before = server.revision;
    const report = await run(server);
    assert.equal(server.revision, before);
    assert.equal(report.counts.lease.same + report.counts.reservation.same, 3);
    assert.equal(report.counts.configuration.same, 1);
  });

  test("a dry run writes nothing and says the same", async () => {
    const server = newServer();
    const { counts, done } = await run(server, { isDryRun: true });
    assert.deepEqual([server.entries, server.grantIds, done], [[], [], true]);
    assert.deepEqual(counts, (await run(server)).counts);
  });

  test("a host that takes its lease afterwards keeps its subnet", async () => {
    const server = newServer();
    await run(server);
    const clock = { now_ms: () => NOW_MS };
    const store = new EtcdStore({ etcd: server.client(), prefix: PREFIX, clock });
    for (const { subnets, ...attributes } of SOURCE.leases) {
      const taken = await store.acquire({ attributes, previousSubnets: [] });
      assert.equal(leaseKey(taken.subnets), leaseKey(subnets));
    }
    assert.equal(leasesOf(server)[1]![2], null);
    await store.close();
  });

  test("what has run out gets the time that the registry would give", async () => {
    const server = newServer();
    const leases = [lease("10.5.1.0/24", "192.0.2.1", -5), lease("10.5.2.0/24", "192.0.2.2", 1e9)];
    await run(server, { source: { configText: null, leases } });
    assert.deepEqual(leasesOf(server).map(([, , left]) => left), [600, 86_400]);
    assert.equal(server.entry(`${PREFIX}/config`), null);
  });

  test("a lease that was renewed in the registry since gets that time", async () => {
    const server = newServer();
    await run(server);
    const leases = SOURCE.leases.map((one) =>
      one.expiry_ms === null ? one : { ...one, expiry_ms: NOW_MS + 24 * HOUR_S * 1000 }
    );
    const { counts } = await run(server, { source: { ...SOURCE, leases } });
    assert.equal(counts.lease.extended, 2);
    assert.deepEqual(leasesOf(server).map(([, , left]) => left), [86_400, null, 86_400]);
  });

  test("more than there are calls at once", async () => {
    const server = newServer();
    const leases = Array.from(
      { length: 200 },
      (_, i) => lease(`10.5.${i}.0/24`, `192.0.2.${i + 1}`, HOUR_S),
    );
    const { counts } = await run(server, { source: { configText: CONFIG, leases } });
    assert.deepEqual([counts.lease.created, leasesOf(server).length], [200, 200]);
  });
});

describe("what etcd says otherwise", () => {
  const CASES: readonly [name: string, prepare: (server: FakeServer) => void, reason: RegExp][] = [
    ["another host", (s) => s.put(key("10.5.1.0-24"), value("192.0.2.9")), /for 192\.0\.2\.9/],
    [
      "the same host, otherwise",
      (s) =>
        s.put(
          key("10.5.1.0-24"),
          '{"PublicIP":"192.0.2.1","BackendType":"host-gw"}',
          s.grant(99),
        ),
      /something else of the same host/,
    ],
    ["garbage", (s) => s.put(key("10.5.1.0-24"), "{"), /cannot be read/],
    [
      "a lease where we have a reservation",
      (s) => s.put(key("10.5.2.0-24"), value("192.0.2.2"), s.grant(99)),
      /reserved in the registry/,
    ],
    [
      "another configuration",
      (s) => s.put(`${PREFIX}/config`, '{"Network":"10.9.0.0/16"}'),
      /another network configuration/,
    ],
    ["a broken configuration", (s) => s.put(`${PREFIX}/config`, "{"), /another network conf/],
  ];
  for (const [name, prepare, reason] of CASES) {
    test(`${name}: nothing is written, until that is asked for`, async () => {
      const server = newServer();
      prepare(server);
      const before = server.revision;
      const refused = await run(server);
      assert.equal(refused.done, false);
      assert.equal(refused.conflicts.length, 1);
      assert.match(refused.conflicts[0]!.reason, reason);
      assert.deepEqual([server.revision, refused.conflicts[0]!.isForceable], [before, true]);
      assert.equal((await run(server, { isForced: true })).done, true);
      assert.deepEqual(leasesOf(server), MIGRATED);
      assert.equal(server.entry(`${PREFIX}/config`)?.value, CONFIG);
    });
  }

  test("the same in other words is no difference", async () => {
    const server = newServer();
    server.put(key("10.5.1.0-24"), '{"PublicIP":"192.0.2.1"}', server.grant(HOUR_S));
    // Reserved there: that stays.
    server.put(key("10.5.3.0-24"), value("192.0.2.3"));
    server.put(`${PREFIX}/config`, '{ "network": "10.5.0.0/16", "Backend": {"Type": "udp"} }');
    const { done, counts } = await run(server);
    assert.deepEqual([done, counts.lease.same, counts.configuration.same], [true, 2, 1]);
    assert.equal(server.entry(key("10.5.3.0-24"))?.leaseId, 0n);
  });

  test("a lease that is extended stays as its host wrote it since it was restarted", async () => {
    const server = newServer();
    const source = (run: string, left_s: number): MigrationSource => ({
      configText: CONFIG,
      leases: [{ ...lease("10.5.1.0/24", "192.0.2.1", left_s), node: { id: "one", run } }],
    });
    await run(server, { source: source("second", HOUR_S) });
    const [[name, written]] = leasesOf(server) as [[string, string, number]];
    const { done, counts } = await run(server, { source: source("first", 23 * HOUR_S) });
    assert.deepEqual([done, counts.lease.extended], [true, 1]);
    assert.deepEqual(leasesOf(server), [[name, written, 23 * HOUR_S]]);
  });

  test("what overlaps another host's lease is never forced", async () => {
    const server = newServer();
    server.put(key("10.5.0.0-22"), value("192.0.2.9"), server.grant(99));
    const before = server.revision;
    const report = await run(server, { isForced: true });
    assert.deepEqual([report.done, server.revision], [false, before]);
    assert.deepEqual(report.conflicts.map(({ name }) => name), [
      "10.5.1.0-24",
      "10.5.2.0-24",
      "10.5.3.0-24",
    ]);
    assert.match(report.conflicts[0]!.reason, /overlaps 10\.5\.0\.0-22 of 192\.0\.2\.9/);
  });

  test("another's lease is in the way, also behind one of the host itself", async () => {
    const server = newServer();
    server.put(key("10.5.2.0-24"), value("192.0.2.2"), server.grant(99));
    server.put(key("10.5.3.0-24"), value("192.0.2.9"), server.grant(99));
    const leases = [lease("10.5.2.0/23", "192.0.2.2", null)];
    const report = await run(server, { source: { ...SOURCE, leases }, isForced: true });
    assert.match(report.conflicts[0]!.reason, /overlaps 10\.5\.3\.0-24 of 192\.0\.2\.9/);
    assert.deepEqual([report.done, server.entry(key("10.5.2.0-23"))], [false, null]);
  });

  test("a host that is on etcd already, with another subnet, keeps that one", async () => {
    const server = newServer();
    server.put(key("10.5.77.0-24"), value("192.0.2.1"), server.grant(99));
    server.put(key("10.5.78.0-24"), value("192.0.2.2"), server.grant(99));
    const report = await run(server);
    assert.deepEqual(report.skipped.map(({ name }) => name), ["10.5.1.0-24"]);
    assert.match(
      report.skipped[0]!.reason,
      /holds 10\.5\.77\.0-24 in etcd already, and keeps that/,
    );
    assert.deepEqual(leasesOf(server).map(([name]) => name), [
      "10.5.2.0-24",
      "10.5.3.0-24",
      "10.5.77.0-24",
      "10.5.78.0-24",
    ]);
  });

  test("foreign keys beside ours are left alone", async () => {
    const server = newServer();
    server.put(key("not a subnet"), "x");
    server.put(`${PREFIX}/other`, "y");
    server.put(`${PREFIX}-2/subnets/10.5.1.0-24`, value("192.0.2.9"));
    assert.equal((await run(server)).done, true);
    assert.equal(server.entry(key("not a subnet"))?.value, "x");
    assert.equal(server.entry(`${PREFIX}-2/subnets/10.5.1.0-24`)?.value, value("192.0.2.9"));
  });
});

describe("faults", () => {
  for (const fate of ["lost", "unsent", "unanswered", "late"] as const satisfies Fate[]) {
    for (const call of ["grantLease", "transact"] as const) {
      if (call === "grantLease" && fate === "late") continue;
      test(`${call} ${fate}: it ends as it should`, async () => {
        const server = newServer();
        let left = 1;
        server.fault = (name) => name === call && left-- > 0 ? fate : null;
        const report = await run(server);
        server.deliverLate();
        assert.equal(report.done, true);
        assert.deepEqual(leasesOf(server), MIGRATED);
      });
    }
  }

  test("etcd goes away in the middle: it says how far it was, and goes on later", async () => {
    const server = newServer();
    let count = 0;
    server.fault = (name) => name === "transact" && ++count > 2 ? "lost" : null;
    await assert.rejects(run(server), {
      message: /^after 2 of 4 keys: .*connection reset/,
      hint: /run the migration again/,
    });
    server.fault = () => null;
    assert.equal((await run(server)).done, true);
    assert.deepEqual(leasesOf(server), MIGRATED);
  });

  test("another takes a key meanwhile: it is not overwritten", async () => {
    const server = newServer();
    server.fault = (name) => {
      if (name === "grantLease") server.put(key("10.5.1.0-24"), value("192.0.2.9"));
      return null;
    };
    await assert.rejects(run(server, { isForced: true }), { code: "conflict" });
    assert.equal(server.entry(key("10.5.1.0-24"))?.value, value("192.0.2.9"));
  });

  test("the signal ends it", async () => {
    const ending = new AbortController();
    const server = newServer();
    server.fault = (name) => {
      if (name === "transact") ending.abort(new Error("interrupted"));
      return null;
    };
    await assert.rejects(run(server, { signal: ending.signal }), /interrupted/);
  });
});
