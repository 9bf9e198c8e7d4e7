/** `leases`, `config` and `migrate` over etcd, which here is its twin in memory. */
import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenUnix } from "../../src/api/listener.ts";
import { WatcherPool } from "../../src/api/watch_stream.ts";
import { SelvageError } from "../../src/errors.ts";
import type { EtcdOptions } from "../../src/etcd/options.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { FakeControl, FakeStore, lease, NOW_MS } from "../api/fake_control.ts";
import { FakeServer } from "../etcd/fake_etcd.ts";
import { cli, type CliResult, FakeIo } from "./fake_io.ts";

const PREFIX = "/coreos.com/network";
const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}';
const AT = ["--etcd-endpoints", "http://192.0.2.1:2379"];

let directory = "";
let server = new FakeServer(() => NOW_MS);
let opened: EtcdOptions | null = null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "selvage-cli-"));
  server = new FakeServer(() => NOW_MS);
  opened = null;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function run(args: readonly string[], io = new FakeIo()): Promise<CliResult> {
  return cli(args, io, (options) => {
    opened = options;
    return server.client();
  });
}

async function done(args: readonly string[], io = new FakeIo()): Promise<string> {
  const { code, stdout, stderr } = await run(args, io);
  assert.equal(code, 0, stderr);
  return stdout;
}

const value = (address: string) =>
  `{"PublicIP":"${address}","PublicIPv6":null,"BackendType":"vxlan",` +
  `"BackendData":{"VNI":1,"VtepMAC":"ea:18:5c:b2:85:27"}}`;
const key = (name: string) => `${PREFIX}/subnets/${name}`;

describe("how etcd is reached", () => {
  test("every flag", async () => {
    server.put("/p/config", CONFIG);
    const file = join(directory, "password");
    writeFileSync(file, "secret \nnot this\n");
    const flags = ["-etcd-endpoints=a:1,https://b:2", "-etcd-prefix=/p/", "-etcd-cafile=/ca"];
    const client = ["-etcd-certfile=/c", "-etcd-keyfile=/k", "-etcd-username=u"];
    await done(["leases", "list", ...flags, ...client, `-etcd-password-file=${file}`]);
    assert.deepEqual(opened, {
      endpoints: ["a:1", "https://b:2"],
      prefix: "/p",
      cafile: "/ca",
      certfile: "/c",
      keyfile: "/k",
      username: "u",
      password: "secret ",
      passwordFile: file,
    });
  });

  test("the environment alone; what was typed goes before it", async () => {
    server.put(key("10.5.1.0-24"), value("192.0.2.1"), server.grant(100));
    const env = { FLANNELD_ETCD_ENDPOINTS: "h:1", SELVAGE_ETCD_PREFIX: "/other" };
    assert.match(await done(["leases"], new FakeIo(env)), /No leases yet/);
    const typed = ["leases", "list", "--etcd-prefix", PREFIX];
    assert.match(await done(typed, new FakeIo(env)), /10\.5\.1\.0\/24/);
    const socket = join(directory, "none.sock");
    const { code, stderr } = await run(["leases", "list", "-api-socket", socket], new FakeIo(env));
    assert.equal(code, 1);
    assert.match(stderr, /no socket at/);
    const api = new FakeIo({ SELVAGE_API: "http://127.0.0.1:1" });
    assert.match((await run(["leases", "-api-socket", socket], api)).stderr, /no socket at/);
  });

  test("a password that cannot be read", async () => {
    const args = ["leases", "list", ...AT, "-etcd-username=u", "-etcd-password-file"];
    const missing = await run([...args, join(directory, "missing")]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /cannot read .*missing/);
    const empty = join(directory, "empty");
    writeFileSync(empty, "\n");
    assert.match((await run([...args, empty])).stderr, /--etcd-password-file .*empty: empty/);
  });

  test("a file that is named goes before a password in the environment", async () => {
    const file = join(directory, "password");
    writeFileSync(file, "typed\n");
    const env = { FLANNELD_ETCD_PASSWORD: "set", SELVAGE_ETCD_USERNAME: "u" };
    await done(["leases", ...AT, "-etcd-password-file", file], new FakeIo(env));
    assert.deepEqual([opened?.password, opened?.passwordFile], ["typed", file]);
  });

  test("without a configuration the advice has the endpoints that were typed", async () => {
    const typed = await run(["config", "get", ...AT]);
    assert.equal(typed.code, 1);
    assert.match(typed.stderr, /config set FILE --etcd-endpoints http:\/\/192\.0\.2\.1:2379\n$/);
    const env = { SELVAGE_ETCD_ENDPOINTS: "http://192.0.2.1:2379" };
    const set = await run(["config"], new FakeIo(env));
    assert.match(set.stderr, /Write one: selvage config set FILE\.\n$/);
  });

  test("what the client says comes out as its error", async () => {
    server.isDown = true;
    for (
      const args of [["leases", "list"], ["config", "get"], ["leases", "revoke", "10.5.1.0/24"]]
    ) {
      const { code, stderr } = await run([...args, ...AT]);
      assert.deepEqual([code, stderr], [1, "selvage: etcd at fake:2379: connection refused\n"]);
    }
  });
});

describe("selvage check, with etcd", () => {
  const asked = async (...args: string[]) => (await run(["check", ...AT, ...args])).check?.etcd;
  const where = { endpoints: "http://192.0.2.1:2379", configKey: `etcd key ${PREFIX}/config` };

  test("etcd that a host could use, and the configuration to judge by", async () => {
    server.put(`${PREFIX}/config`, CONFIG);
    server.put(key("10.5.1.0-24"), value("192.0.2.1"), server.grant(100));
    const { revision } = server;
    const { leases, ...rest } = (await asked())!;
    assert.deepEqual(rest, { ...where, configText: CONFIG, problem: null });
    assert.deepEqual(leases.map(({ subnets }) => leaseKey(subnets)), ["10.5.1.0-24"]);
    assert.equal(server.revision, revision);
  });

  test("what would keep a host from its lease", async () => {
    const missing = await asked();
    assert.match(missing!.problem!.why, /no network configuration/);
    server.put(`${PREFIX}/config`, "{");
    const broken = await asked();
    assert.equal(broken!.configText, null);
    assert.match(broken!.problem!.why, /not JSON/);
    server.put(`${PREFIX}/config`, CONFIG);
    const full = new SelvageError("store_full", "etcd takes no writes", { hint: "Compact." });
    server.fault = (call) => {
      if (call === "transact") throw full;
      return null;
    };
    const problem = { why: "etcd takes no writes", hint: "Compact." };
    assert.deepEqual(await asked(), { ...where, configText: CONFIG, leases: [], problem });
  });

  test("a file and etcd are not asked together", async () => {
    const { code, stderr } = await run(["check", ...AT, "--net-config", "n.json"]);
    assert.equal(code, 2);
    assert.match(stderr, /exclude each other/);
  });
});

describe("selvage leases, straight from etcd", () => {
  test("list, reserve, revoke", async () => {
    server.put(`${PREFIX}/config`, CONFIG);
    server.put(key("10.5.1.0-24"), value("192.0.2.1"), server.grant(100));
    server.put(key("10.5.2.0-24"), value("192.0.2.2"));
    server.put(key("10.5.9.0-24"), "{");
    const io = new FakeIo();
    const listed = await done(["leases", "list", ...AT], io);
    const [count, named, ...rest] = io.stderr.split("\n");
    assert.equal(count, "selvage: 1 entry of the store cannot be read: not shown");
    assert.match(named!, /^ {2}\/coreos\.com\/network\/subnets\/10\.5\.9\.0-24: value: not JSON/);
    assert.deepEqual(rest, [""]);
    server.delete(key("10.5.9.0-24"));
    assert.match(listed, /10\.5\.1\.0\/24 +192\.0\.2\.1 +vxlan/);
    assert.match(listed, /10\.5\.2\.0\/24 +192\.0\.2\.2 +vxlan +never \(reserved\)/);
    const json = JSON.parse(await done(["leases", "list", "-json", ...AT]));
    assert.deepEqual(
      json.map((one: { key: string; expiry_ms?: null }) => [one.key, one.expiry_ms]),
      [["10.5.1.0-24", undefined], ["10.5.2.0-24", null]],
    );

    const reserve = ["leases", "reserve", "10.5.9.0/24", "--public-ip", "192.0.2.9", ...AT];
    assert.equal(await done(reserve), "reserved 10.5.9.0-24 for 192.0.2.9\n");
    const entry = server.entry(key("10.5.9.0-24"));
    assert.deepEqual([entry?.leaseId, JSON.parse(entry!.value).BackendType], [0n, "vxlan"]);
    assert.match(
      await done(["leases", "list", ...AT]),
      /10\.5\.9\.0\/24 +192\.0\.2\.9 +vxlan +never \(reserved\), host has not come yet/,
    );
    const taken = await run(["leases", "reserve", "10.5.1.0/24", "-public-ip=192.0.2.9", ...AT]);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /10\.5\.1\.0-24 is taken: it is leased to 192\.0\.2\.1/);
    // No daemon need run here, so the commands that it advises need the same flags.
    assert.match(taken.stderr, /the same etcd flags: --etcd-endpoints http:\/\/192\.0\.2\.1:2379/);

    assert.equal(await done(["leases", "revoke", "10.5.1.0/24", ...AT]), "revoked 10.5.1.0-24\n");
    assert.equal(server.entry(key("10.5.1.0-24")), null);
    const again = await run(["leases", "revoke", "10.5.1.0/24", ...AT]);
    assert.equal(again.code, 1);
  });

  test("watch: what is there, then what comes, and that etcd is lost", async () => {
    const io = new FakeIo();
    server.put(key("10.5.1.0-24"), value("192.0.2.1"), server.grant(100));
    io.onOut = (text) => {
      if (text.includes("- 10.5.1.0-24")) return io.interrupt.abort();
      if (text.includes("+ 10.5.2.0-24")) return server.delete(key("10.5.1.0-24"));
      server.put(key("10.5.2.0-24"), value("192.0.2.2"));
    };
    const text = await done(["leases", "watch", ...AT], io);
    assert.match(text, /^\+ 10\.5\.1\.0-24 192\.0\.2\.1 vxlan/);
    assert.match(text, /\n\+ 10\.5\.2\.0-24 192\.0\.2\.2 vxlan.*\n- 10\.5\.1\.0-24\n$/);
    const lost = new FakeIo();
    lost.onOut = () => {
      lost.onOut = () => {};
      server.setDown(true);
    };
    lost.err = (said) => {
      lost.stderr += said;
      if (said.includes("is back")) lost.interrupt.abort();
      else server.setDown(false);
    };
    await done(["leases", "watch", ...AT], lost);
    const [away, back, ...more] = lost.stderr.split("\n");
    assert.match(away!, /^selvage: the store is away, trying again: .*connection refused$/);
    assert.deepEqual([back, ...more], ["selvage: the store is back", ""]);
  });
});

describe("selvage config", () => {
  test("set: shows what changes, writes the text as it is, and get shows it", async () => {
    const file = join(directory, "net-conf.json");
    writeFileSync(file, CONFIG);
    const first = await done(["config", "set", file, ...AT]);
    assert.match(first, /^KEY +NOW +NEW\n/);
    assert.match(first, /Backend\.Type +"vxlan"/);
    assert.equal(server.entry(`${PREFIX}/config`)?.value, CONFIG);
    assert.equal(JSON.parse(await done(["config", "get", ...AT])).Network, "10.5.0.0/16");
    assert.equal(await done(["config", "set", file, ...AT]), "Nothing changes.\n");

    const io = new FakeIo();
    io.input = CONFIG.replace('"vxlan"', '"vxlan","Port":4789');
    const before = server.revision;
    const tried = await done(["config", "set", "-", "--dry-run", ...AT], io);
    assert.match(
      tried,
      /Backend\.Port +4789\n.*new port pass every firewall\.\nNothing was written\.\n$/,
    );
    assert.equal(server.revision, before);
    const again = new FakeIo();
    again.input = io.input;
    const { split, ...changed } = JSON.parse(
      await done(["config", "set", "-", "-json", ...AT], again),
    );
    assert.deepEqual([split.kind, split.what], ["running", "Backend.Port unset → 4789"]);
    assert.deepEqual(changed, {
      changes: [{ key: "Backend.Port", now: null, next: "4789" }],
      written: true,
    });
    assert.equal(server.entry(`${PREFIX}/config`)?.value, io.input);
  });

  test("set: what is broken is refused, and replaces what is broken in etcd", async () => {
    const io = new FakeIo();
    for (
      const [input, message] of [
        ["{", /standard input: not JSON/],
        ['{"Network":"10.5.0.0/30"}', /standard input: Network/],
        ['{"Network":"10.5.0.0/16","Backend":{"Type":"warp"}}', /warp/],
      ] as const
    ) {
      io.input = input;
      const { code, stderr } = await run(["config", "set", "-", ...AT], io);
      assert.equal(code, 1);
      assert.match(stderr, message);
      io.stderr = "";
    }
    assert.deepEqual(server.entries, []);
    const missing = await run(["config", "get", ...AT]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /etcd has no network configuration/);
    server.put(`${PREFIX}/config`, "{");
    assert.match((await run(["config", "get", ...AT])).stderr, /config: not JSON/);
    io.input = CONFIG;
    await done(["config", "set", "-", ...AT], io);
    assert.equal(server.entry(`${PREFIX}/config`)?.value, CONFIG);
  });

  const ODD = '{"Network":"10.5.0.0/16","Bakend":{"Type":"vxlan"},"network":"10.6.0.0/16",' +
    '"Backend":{"Type":"vxlan","Prot":4789}}';
  const ODDITIES = [
    /Bakend is ignored: there is no such key/,
    /Backend\.Prot is ignored: vxlan has no such option/,
    /network is there more than once: the last one counts/,
  ];

  test("set: what would be passed over is refused, until --force is given", async () => {
    const refused = new FakeIo();
    refused.input = ODD;
    const { code, stdout, stderr } = await run(["config", "set", "-", ...AT], refused);
    assert.deepEqual([code, stdout, server.entries], [1, "", []]);
    for (const oddity of ODDITIES) assert.match(stderr, oddity);
    assert.match(
      stderr,
      /^selvage: network configuration: .*\nNothing was written\. Correct the file.*--force, .*\n$/,
    );
    const json = new FakeIo();
    json.input = ODD;
    await run(["config", "set", "-", "--json", ...AT], json);
    assert.equal(JSON.parse(json.stderr).code, "invalid_argument");

    const forced = new FakeIo();
    forced.input = ODD;
    await done(["config", "set", "-", "--force", ...AT], forced);
    assert.equal(server.entry(`${PREFIX}/config`)?.value, ODD);
    const lines = forced.stderr.trimEnd().split("\n");
    assert.equal(lines.length, ODDITIES.length);
    for (const [i, oddity] of ODDITIES.entries()) {
      assert.match(lines[i]!, /^warning: network configuration: /);
      assert.match(lines[i]!, oddity);
    }
  });

  test("set --dry-run shows the changes and is refused as well; check only warns", async () => {
    const tried = new FakeIo();
    tried.input = ODD;
    const { code, stdout, stderr } = await run(["config", "set", "-", "--dry-run", ...AT], tried);
    assert.equal(code, 1);
    assert.match(stdout, /Network +"10\.6\.0\.0\/16"[^]*Nothing was written\.\n$/);
    for (const oddity of ODDITIES) assert.match(stderr, oddity);
    assert.match(stderr, /^selvage: network configuration: /);
    const forced = new FakeIo();
    forced.input = ODD;
    await done(["config", "set", "-", "--dry-run", "--force", ...AT], forced);
    assert.doesNotMatch(forced.stderr, /refused/);
    assert.deepEqual(server.entries, []);
    const checked = new FakeIo();
    checked.input = ODD;
    assert.equal(JSON.parse(await done(["config", "check", "-"], checked)).Network, "10.6.0.0/16");
    for (const oddity of ODDITIES) assert.match(checked.stderr, oddity);
    assert.doesNotMatch(checked.stderr, /refused/);
  });

  test("set: hosts whose subnets no longer fit are told of", async () => {
    const advice = /\nHosts whose subnets no longer fit get others .*containers must then be made/;
    const set = (config: unknown, ...flags: string[]) => {
      const io = new FakeIo();
      io.input = JSON.stringify(config);
      return done(["config", "set", "-", ...flags, ...AT], io);
    };
    const first = { Network: "10.5.0.0/16" };
    assert.doesNotMatch(await set(first), advice);
    assert.doesNotMatch(await set({ ...first, Backend: { Type: "vxlan" } }), advice);
    const v6 = { EnableIPv6: true, IPv6Network: "fc00:5::/48" };
    const dual = { ...first, ...v6, Backend: { Type: "vxlan" } };
    assert.doesNotMatch(await set(dual), advice);
    assert.match(await set({ ...dual, IPv6SubnetLen: 80 }, "--dry-run"), advice);
    assert.match(await set({ ...dual, SubnetLen: 26 }), advice);
    assert.match(await set({ ...dual, SubnetLen: 26, SubnetMax: "10.5.9.0" }), advice);
  });

  test("set: another's change in between is not lost", async () => {
    server.put(`${PREFIX}/config`, CONFIG);
    const io = new FakeIo();
    io.input = CONFIG.replace("10.5", "10.6");
    const theirs = CONFIG.replace("10.5", "10.7");
    let getCount = 0;
    server.fault = (call) => {
      // It was looked at, and is looked at again to be written.
      if (call === "get" && ++getCount === 2) server.put(`${PREFIX}/config`, theirs);
      return null;
    };
    const { code, stderr } = await run(["config", "set", "-", ...AT], io);
    assert.equal(code, 1);
    assert.match(stderr, /another program has changed it meanwhile/);
    assert.equal(server.entry(`${PREFIX}/config`)?.value, theirs);
  });
});

test("selvage config set through the daemon", async () => {
  const control = new FakeControl();
  const socket = join(directory, "api.sock");
  const listener = await listenUnix(control, socket, { watchers: new WatcherPool() });
  try {
    const io = new FakeIo({ SELVAGE_API_SOCKET: socket });
    io.input = '{"Network":"10.5.0.0/16","SubnetLen":26}';
    const text = await done(["config", "set", "-"], io);
    assert.match(text, /SubnetLen +24 +26\n/);
    assert.match(text, /It is written/);
    assert.equal(control.store.config?.ranges[0]?.subnetLength, 26);
  } finally {
    await listener.close();
  }
});

describe("selvage migrate", () => {
  const HOUR_MS = 3_600_000;

  async function makeRegistry(): Promise<EmbeddedStore> {
    const clock = { now_ms: () => NOW_MS, monotonic_ms: () => 0 };
    const store = new EmbeddedStore({ path: registryPath(directory), clock });
    store.setConfig(CONFIG, "test");
    const attributes = (address: string) => ({
      publicAddresses: [IpAddress.parse(address)],
      backendType: "vxlan",
      backendData: { 4: { VNI: 1, VtepMAC: "ea:18:5c:b2:85:27" } },
    });
    const subnet = (text: string) => [IpPrefix.parse(text)];
    const previousSubnets = subnet("10.5.1.0/24");
    await store.acquire({ attributes: attributes("192.0.2.1"), previousSubnets });
    await store.reserve(subnet("10.5.2.0/24"), attributes("192.0.2.2"));
    return store;
  }

  test("from the files of a registry that does not run", async () => {
    await (await makeRegistry()).close();
    const before = readFileSync(registryPath(directory));
    const args = ["migrate", "--from-state-dir", directory, ...AT];
    const tried = await done([...args, "--dry-run"]);
    assert.match(tried, /nothing was written\.\n$/);
    assert.equal(server.revision, 1n);
    const text = await done(args);
    assert.match(text, /^leases +1 +0 +0 +0$/m);
    assert.match(text, /^reservations +1 +0 +0 +0$/m);
    assert.match(text, /^configuration +1 +0 +0 +0$/m);
    assert.match(text, /Next: restart each host with --etcd-endpoints/);
    const [config, held, reserved] = server.entries;
    assert.equal(JSON.parse(config!.value).Network, "10.5.0.0/16");
    assert.deepEqual([held!.key, held!.value], [key("10.5.1.0-24"), value("192.0.2.1")]);
    assert.equal(server.findLease(held!.leaseId)!.ttl_s, 86_400);
    assert.deepEqual([reserved!.key, reserved!.leaseId], [key("10.5.2.0-24"), 0n]);
    const again = JSON.parse(await done([...args, "-json"]));
    assert.deepEqual(
      [again.done, again.counts.lease.same, again.counts.configuration.same, again.from],
      [true, 1, 1, registryPath(directory)],
    );
    assert.deepEqual(readFileSync(registryPath(directory)), before);
  });

  test("what --force overwrites, and what must be revoked first", async () => {
    await (await makeRegistry()).close();
    const args = ["migrate", "--from-state-dir", directory, ...AT];
    server.put(key("10.5.0.0-23"), value("192.0.2.9"), server.grant(100));
    const { code, stdout } = await run(args);
    assert.equal(code, 1);
    assert.match(stdout, /^in the way: 10\.5\.1\.0-24: it overlaps 10\.5\.0\.0-23 of 192/);
    assert.match(stdout, /Revoke .*: selvage leases revoke SUBNET .*--force does not .* them\.\n$/);
    assert.doesNotMatch(stdout, /differs/);

    server.put(`${PREFIX}/config`, CONFIG.replace("10.5", "10.6"));
    const both = (await run(args)).stdout;
    assert.match(both, /^in the way: 10\.5\.1\.0-24: .*\ndiffers: config: etcd has another/);
    assert.match(both, /does not overwrite them\. After that, --force overwrites what differs/);
    const before = server.revision;
    const forced = await run([...args, "--force"]);
    assert.deepEqual([forced.code, server.revision], [1, before]);
    assert.match(forced.stdout, /^in the way: 10\.5\.1\.0-24: .*\ndiffers: config: /);
    assert.match(forced.stdout, /Migrate again after that: --force then overwrites what differs/);

    await done(["leases", "revoke", "10.5.0.0/23", ...AT]);
    assert.match(await done([...args, "--force"]), /^configuration +0 +0 +0 +1$/m);
  });

  test("a host whose lease is left out is not promised it", async () => {
    await (await makeRegistry()).close();
    server.put(key("10.5.77.0-24"), value("192.0.2.1"), server.grant(100));
    const text = await done(["migrate", "--from-state-dir", directory, ...AT]);
    assert.match(text, /^left out: 10\.5\.1\.0-24: its host holds 10\.5\.77\.0-24 .* keeps that$/m);
    assert.match(text, /A host whose lease is left out gets the one it has in etcd\.\n$/);
  });

  test("what cannot be read in etcd is counted, and stays", async () => {
    await (await makeRegistry()).close();
    server.put(key("10.5.77.0-24"), "{");
    const text = await done(["migrate", "--from-state-dir", directory, ...AT]);
    assert.match(text, /^1 entry of etcd cannot be read: left as it is$/m);
    assert.equal(server.entry(key("10.5.77.0-24"))?.value, "{");
  });

  test("a registry that runs is not read past it", async () => {
    const store = await makeRegistry();
    try {
      const args = ["migrate", "--from-state-dir", directory, ...AT];
      const { code, stderr } = await run(args);
      assert.equal(code, 1);
      assert.match(stderr, /registry\.db: another process has it open/);
      assert.match(stderr, /Leave --from-state-dir out/);
    } finally {
      await store.close();
    }
  });

  test("what a killed registry had committed is there", async () => {
    const store = await makeRegistry();
    const copy = mkdtempSync(join(tmpdir(), "selvage-cli-"));
    try {
      // As the disk is at the moment of a kill: the log was never written back.
      for (const name of readdirSync(directory)) {
        writeFileSync(join(copy, name), readFileSync(join(directory, name)));
      }
      assert.match(
        await done(["migrate", "--from-state-dir", copy, ...AT]),
        /^leases +1 +0 +0 +0$/m,
      );
    } finally {
      await store.close();
      rmSync(copy, { recursive: true, force: true });
    }
  });

  test("no registry there", async () => {
    const { code, stderr } = await run(["migrate", "--from-state-dir", directory, ...AT]);
    assert.equal(code, 1);
    assert.match(stderr, /registry\.db: there is no such file/);
    assert.deepEqual(readdirSync(directory), []);
  });

  test("from a running daemon, with the time that leases have left", async () => {
    const control = new FakeControl(
      new FakeStore([
        lease("10.5.1.0/24", "192.0.2.1", NOW_MS + HOUR_MS),
        lease("10.5.2.0/24", "192.0.2.2"),
      ]),
    );
    const socket = join(directory, "api.sock");
    const listener = await listenUnix(control, socket, { watchers: new WatcherPool() });
    const args = ["migrate", "--api-socket", socket, ...AT];
    try {
      await done(args);
      assert.equal(server.findLease(server.entry(key("10.5.1.0-24"))!.leaseId)!.ttl_s, 3600);
      assert.equal(server.entry(key("10.5.2.0-24"))?.leaseId, 0n);

      // Another's content: named, and written over only if that is said.
      server.put(key("10.5.1.0-24"), value("192.0.2.77"), server.grant(100));
      const refused = await run(args);
      assert.equal(refused.code, 1);
      assert.match(refused.stdout, /^differs: 10\.5\.1\.0-24: etcd has it for 192\.0\.2\.77\n/);
      assert.match(refused.stdout, /Nothing was written\. --force overwrites what differs/);
      assert.match(await done([...args, "--force"]), /^leases +0 +0 +0 +1$/m);
      assert.match(server.entry(key("10.5.1.0-24"))!.value, /"192\.0\.2\.1"/);

      control.current = { ...control.current, store: { ...control.store.state(), kind: "etcd" } };
      const already = await run(args);
      assert.equal(already.code, 1);
      assert.match(already.stderr, /uses etcd already/);

      control.store.failure = new SelvageError("unavailable", "registry lost");
      control.current = { ...control.current, store: control.store.state() };
      assert.match((await run(args)).stderr, /registry lost/);
    } finally {
      await listener.close();
    }
  });
});
