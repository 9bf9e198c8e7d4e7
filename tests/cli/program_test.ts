import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SelvageError } from "../../src/errors.ts";
import { formatJoinString, type JoinString } from "../../src/registry/join_string.ts";
import type { RunOptions } from "../../src/agent/options.ts";
import { cli, FakeIo } from "./fake_io.ts";

const JOIN: JoinString = {
  addresses: [{ host: "192.0.2.1", port: 8286 }],
  token: "0123456789ab.secret",
  fingerprint: "ab".repeat(32),
};
const JOIN_STRING = formatJoinString(JOIN);

let dir = "";
before(() => {
  dir = mkdtempSync(join(tmpdir(), "selvage-cli-"));
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** The words of a command line; `DIR` is the directory, whose path may hold blanks. */
const words = (text: string) =>
  text.split(" ").filter((word) => word !== "").map((word) => word.replace("DIR", dir));

async function runOptions(typed: string, env: Record<string, string> = {}): Promise<RunOptions> {
  const result = await cli(words(typed), new FakeIo(env));
  assert.equal(result.code, 0, result.stderr);
  assert.ok(result.run !== null, "run was not called");
  return result.run;
}

describe("selvage run", () => {
  test("the defaults", async () => {
    assert.deepEqual(await runOptions("run"), {
      link: { interfaces: [], interfaceRegexes: [], canReach: null, publicAddresses: [] },
      subnetFile: "/run/flannel/subnet.env",
      renewMargin_ms: 3_600_000,
      ipMasq: false,
      isMasqFullyRandom: true,
      forwardRules: true,
      isGuarded: true,
      setsSysctls: true,
      netConfigFile: null,
      registryListen: null,
      join: null,
      etcd: null,
      stateDir: "/var/lib/selvage",
      apiListen: { host: "127.0.0.1", port: 8285 },
      apiSocket: "/run/selvage/api.sock",
      healthListen: null,
      allowsNetworkOverlap: false,
      blackholeRoute: false,
      releaseOnExit: false,
      offloads: "auto",
      workers: "auto",
      trustsUnderlay: false,
      allowsOutsideSources: false,
      allowsCommands: false,
      logLevel: "info",
      notices: [],
    });
  });

  test("every flag", async () => {
    const typed = "run -iface=eth0 -iface 192.0.2.1 --iface-regex ^en --iface-regex=^wl " +
      "-iface-can-reach 2001:DB8::1 -public-ip 198.51.100.1 -public-ipv6 2001:db8::0:1 " +
      "-guard=false -subnet-file /s -subnet-lease-renew-margin 1439 -ip-masq -state-dir /d " +
      "-net-config /n -registry-listen [::]:9000 -api-listen [::1]:0 -api-socket /a " +
      "-release-on-exit -offload tso,udp-gro -workers 8 -log-level warning -v 5 " +
      "-healthz-ip ::1 -healthz-port 8080 -ip-blackhole-route " +
      "-trust-underlay -allow-outside-sources -allow-network-overlap -allow-extension";
    const options = await runOptions(typed);
    const plain = JSON.parse(JSON.stringify(options));
    assert.deepEqual(plain, {
      link: {
        interfaces: ["eth0", "192.0.2.1"],
        interfaceRegexes: ["^en", "^wl"],
        canReach: "2001:db8::1",
        publicAddresses: ["198.51.100.1", "2001:db8::1"],
      },
      subnetFile: "/s",
      renewMargin_ms: 1439 * 60_000,
      ipMasq: true,
      isMasqFullyRandom: true,
      forwardRules: true,
      isGuarded: false,
      setsSysctls: true,
      netConfigFile: "/n",
      registryListen: { host: "::", port: 9000 },
      join: null,
      etcd: null,
      stateDir: "/d",
      apiListen: { host: "::1", port: 0 },
      apiSocket: "/a",
      healthListen: { host: "::1", port: 8080 },
      allowsNetworkOverlap: true,
      blackholeRoute: true,
      releaseOnExit: true,
      offloads: ["tso", "udp-gro"],
      workers: 8,
      trustsUnderlay: true,
      allowsOutsideSources: true,
      allowsCommands: true,
      logLevel: "warning",
      notices: [],
    });
  });

  const fine: [string, Record<string, string>, (options: RunOptions) => unknown, unknown][] = [
    ["run -v 1", {}, (o) => o.logLevel, "debug"],
    ["run -v 0", {}, (o) => o.logLevel, "info"],
    ["run -api-listen off", {}, (o) => o.apiListen, null],
    ["run -registry-listen 192.0.2.1", {}, (o) => o.registryListen?.port, 8286],
    ["run -registry-listen [::1]", {}, (o) => o.registryListen?.port, 8286],
    ["run -registry-listen Host.Example", {}, (o) => o.registryListen?.host, "host.example"],
    ["run -ip-masq=F", { FLANNELD_IP_MASQ: "true" }, (o) => o.ipMasq, false],
    ["run", { FLANNELD_IP_MASQ: "true" }, (o) => o.ipMasq, true],
    ["run", { FLANNELD_IFACE: "eth7" }, (o) => o.link.interfaces, ["eth7"]],
    ["run -iface a", { FLANNELD_IFACE: "eth7" }, (o) => o.link.interfaces, ["a"]],
    ["run", { FLANNELD_IFACE: "f", SELVAGE_IFACE: "s" }, (o) => o.link.interfaces, ["s"]],
    ["run", { FLANNELD_IFACE: "f", SELVAGE_IFACE: "" }, (o) => o.link.interfaces, ["f"]],
    ["run", { SELVAGE_JOIN: ` ${JOIN_STRING}\n` }, (o) => o.join, JOIN],
    ["run", { FLANNELD_JOIN: "no" }, (o) => o.join, null],
    ["run", { SELVAGE_API_LISTEN: "off" }, (o) => o.apiListen, null],
    ["run", { FLANNELD_SUBNET_LEASE_RENEW_MARGIN: "5" }, (o) => o.renewMargin_ms, 300_000],
    ["run -offload off", {}, (o) => o.offloads, []],
    ["run -offload auto", { SELVAGE_OFFLOAD: "off" }, (o) => o.offloads, "auto"],
    ["run", { SELVAGE_OFFLOAD: "csum,uso" }, (o) => o.offloads, ["csum", "uso"]],
    ["run", { SELVAGE_WORKERS: "1" }, (o) => o.workers, 1],
    ["run -workers=auto", { SELVAGE_WORKERS: "1" }, (o) => o.workers, "auto"],
    ["run -subnet-file /a -subnet-file /b", {}, (o) => o.subnetFile, "/b"],
    [
      "run -etcd-endpoints h:1 -etcd-username u -etcd-password p",
      { FLANNELD_ETCD_PASSWORD_FILE: "/none" },
      (o) => o.etcd?.password,
      "p",
    ],
    ["run -healthz-port 1", {}, (o) => o.healthListen, { host: "0.0.0.0", port: 1 }],
    ["run -healthz-ip ::", {}, (o) => o.healthListen, null],
  ];
  for (const [typed, env, pick, expected] of fine) {
    test(`${typed} ${JSON.stringify(env)}`, async () => {
      assert.deepEqual(pick(await runOptions(typed, env)), expected);
    });
  }

  const wrong: [string, Record<string, string>, RegExp][] = [
    ["run -colour red", {}, /unknown flag -colour for "selvage run"/],
    ["run -subnet-lease-renew-margin 0", {}, /--subnet-lease-renew-margin "0": .*1 to 1439/],
    ["run -subnet-lease-renew-margin 1440", {}, /"1440"/],
    ["run -subnet-lease-renew-margin 1e2", {}, /"1e2"/],
    ["run -public-ip 1.2.3", {}, /--public-ip "1\.2\.3": must be an IPv4 address/],
    ["run -public-ip ::1", {}, /--public-ip "::1": must be an IPv4/],
    ["run -public-ipv6 1.2.3.4", {}, /--public-ipv6 "1\.2\.3\.4": must be an IPv6/],
    ["run -iface-can-reach host.example", {}, /--iface-can-reach/],
    ["run -iface-regex (", {}, /--iface-regex "\("/],
    ["run -iface=", {}, /--iface "": must not be empty/],
    ["run -ip-masq=maybe", {}, /--ip-masq "maybe": must be true or false/],
    ["run -offload none", {}, /--offload "none": must be auto, off, or some of csum,tso,uso/],
    ["run -offload=csum,", {}, /--offload "csum,": must be/],
    ["run -workers 0", {}, /--workers "0": must be auto, or a number from 1 to 8/],
    ["run -workers 9", {}, /--workers "9": must be auto/],
    ["run -workers=2.0", {}, /--workers "2\.0": must be auto/],
    ["run -log-level loud", {}, /--log-level "loud": must be one of debug, info/],
    ["run -v=-1", {}, /--v "-1"/],
    ["run -registry-listen :8286", {}, /--registry-listen ":8286": must be HOST:PORT/],
    ["run -registry-listen 1.2.3.4:99999", {}, /must be HOST:PORT/],
    ["run -registry-listen ::1:80", {}, /must be HOST:PORT/],
    ["run -api-listen localhost:8285", {}, /--api-listen "localhost:8285"/],
    ["run -api-listen 127.0.0.1", {}, /--api-listen "127\.0\.0\.1"/],
    ["run -join x -net-config y", {}, /--join and --net-config exclude/],
    ["run -join x", { SELVAGE_REGISTRY_LISTEN: "1.2.3.4:1" }, /--join and SELVAGE_REGISTRY_LISTEN/],
    ["run -join x -etcd-endpoints h:1", {}, /--etcd-endpoints and --join exclude/],
    ["run -etcd-endpoints h:1 -net-config y", {}, /--etcd-endpoints and --net-config exclude/],
    // No daemon runs yet, so the advised command must ask etcd itself.
    [
      "run -etcd-endpoints h:1 -net-config y",
      {},
      /config set FILE --etcd-endpoints h:1$/m,
    ],
    ["run -registry-listen 1.2.3.4:1", { FLANNELD_ETCD_ENDPOINTS: "h:1" }, /and --registry-listen/],
    ["run -etcd-prefix /x", {}, /--etcd-prefix means nothing without --etcd-endpoints/],
    ["run", { SELVAGE_ETCD_CAFILE: "/x" }, /SELVAGE_ETCD_CAFILE means nothing without/],
    ["run -etcd-endpoints ,", {}, /--etcd-endpoints ",": must be at least one URL/],
    ["run -etcd-endpoints h:1 -etcd-prefix /a/../b", {}, /--etcd-prefix .*must not hold/],
    ["run -etcd-endpoints h:1 -etcd-certfile /c", {}, /certfile and --etcd-keyfile go together/],
    ["run -etcd-endpoints h:1 -etcd-username u", {}, /--etcd-username needs a password/],
    ["run -etcd-endpoints h:1 -etcd-password p", {}, /--etcd-password needs --etcd-username/],
    [
      "run -etcd-endpoints h:1 -etcd-username u -etcd-password p -etcd-password-file f",
      {},
      /--etcd-password and --etcd-password-file exclude/,
    ],
    [
      "run -etcd-endpoints h:1 -etcd-username u",
      { FLANNELD_ETCD_PASSWORD: "p", SELVAGE_ETCD_PASSWORD_FILE: "f" },
      /FLANNELD_ETCD_PASSWORD and SELVAGE_ETCD_PASSWORD_FILE exclude/,
    ],
    [
      "run -etcd-endpoints h:1",
      { SELVAGE_ETCD_PASSWORD_FILE: "f" },
      /SELVAGE_ETCD_PASSWORD_FILE needs --etcd-username/,
    ],
    [
      "leases -etcd-endpoints h:1",
      { FLANNELD_ETCD_USERNAME: "u" },
      /FLANNELD_ETCD_USERNAME needs a password/,
    ],
    ["run -etcd-endpoints h:1,nope://x:1", {}, /--etcd-endpoints "h:1,nope.*: the scheme nope/],
    [
      "config",
      { FLANNELD_ETCD_ENDPOINTS: "h" },
      /FLANNELD_ETCD_ENDPOINTS "h": .*\nWrite endpoints/,
    ],
    ["leases -etcd-endpoints http://[fe80::1%eth0]:1", {}, /\nA zone, .*is not supported/],
    ["run -healthz-port 65536", {}, /--healthz-port "65536"/],
    ["migrate", {}, /migrate needs --etcd-endpoints/],
    [
      "leases -etcd-endpoints h:1 -api-socket /s",
      {},
      /--etcd-endpoints and --api-socket exclude/,
    ],
    [
      "leases list -etcd-endpoints h:1 -api-socket /s",
      {},
      /--etcd-endpoints and --api-socket exclude/,
    ],
    ["run", { FLANNELD_IP_MASQ: "maybe" }, /FLANNELD_IP_MASQ "maybe": must be true or false/],
    ["run", { SELVAGE_PUBLIC_IP: "x" }, /SELVAGE_PUBLIC_IP "x": must be an IPv4 address/],
    ["run -iface", {}, /--iface needs a value/],
    ["run extra", {}, /too many arguments/],
    ["rum", {}, /unknown command "rum"/],
    ["demo -hosts 1", {}, /--hosts "1": .*2 to 16/],
    ["demo -hosts 17", {}, /--hosts "17"/],
    ["demo -size 0", {}, /--size "0"/],
    ["leases revoke", {}, /missing required argument 'subnet'/],
    ["leases revoke 10.5.9", {}, /"10\.5\.9"/],
    ["leases reserve 10.5.9.0/24", {}, /needs --public-ip/],
    ["token create -scope root", {}, /--scope "root": must be one of join, api/],
    ["token create -scope api -address 1.2.3.4:5", {}, /--address/],
    ["status -watch", {}, /--watch needs a terminal/],
    ["status -api ftp://x", {}, /--api "ftp:\/\/x"/],
    ["status", { SELVAGE_API: "nonsense" }, /SELVAGE_API "nonsense": not a URL/],
    ["status -json true", {}, /"hint":"Write -json=true"/],
    ["config -json check net-conf.json", {}, /"hint":"Write them behind it: selvage config check"/],
    ["status -api nonsense", {}, /--api "nonsense": not a URL/],
    ["status -api http://192.0.2.1:8285 -token s", {}, /not sent unencrypted/],
  ];
  for (const [typed, env, message] of wrong) {
    test(`${typed} ${JSON.stringify(env)}: exit 2`, async () => {
      const result = await cli(words(typed), new FakeIo(env));
      assert.match(result.stderr, message);
      assert.match(result.stderr, /^selvage: |^{"type":/);
      assert.deepEqual([result.code, result.stdout, result.run, result.demo], [2, "", null, null]);
    });
  }

  test("a join string from a file", async () => {
    const path = join(dir, "join");
    writeFileSync(path, `${JOIN_STRING}\n`);
    assert.deepEqual((await runOptions("run -join @DIR/join")).join, JOIN);
    writeFileSync(path, "\n");
    const empty = await cli(["run", `-join=@${path}`]);
    assert.equal(empty.code, 1);
    assert.match(empty.stderr, /--join: .*\/join: not a join string/);
    const missing = await cli(["run", `-join=@${dir}/missing`]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /--join: cannot read .*\/missing/);
  });
});

describe("the program", () => {
  test("every command has help with examples, and exit 0", async () => {
    const commands = [
      ...["run", "status", "leases", "config", "token", "migrate", "flanneld", "check", "demo"],
      "version",
    ];
    const all = await cli(["--help"]);
    for (const command of commands) {
      assert.match(all.stdout, new RegExp(`^  ${command} `, "m"));
      for (const flag of ["--help", "-h"]) {
        const { code, stdout, stderr } = await cli([command, flag]);
        assert.deepEqual([code, stderr], [0, ""], command);
        assert.match(stdout, new RegExp(`^Usage: selvage ${command}`), command);
        assert.match(stdout, /Examples:\n {2}/, command);
      }
    }
  });

  test("help of a subcommand, by the command help", async () => {
    const { stdout } = await cli(words("leases watch --help"));
    assert.match(stdout, /^Usage: selvage leases watch /);
    for (const typed of ["help leases watch", "leases help watch", "leases watch -h"]) {
      assert.deepEqual((await cli(words(typed))).stdout, stdout, typed);
    }
  });

  test("output that cannot be written: one sentence, exit 1", async () => {
    for (const typed of ["version", "--help", "check"]) {
      const io = new FakeIo();
      io.written = () => Promise.reject(new SelvageError("unavailable", "cannot write it"));
      const { code, stderr } = await cli(words(typed), io);
      assert.deepEqual([code, stderr], [1, "selvage: cannot write it\n"], typed);
    }
  });

  test("no command at all: help on stderr, exit 2", async () => {
    const { code, stdout, stderr } = await cli([]);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^Usage: selvage/);
  });

  test("the version", async () => {
    for (const typed of ["version", "--version", "-version", "run -version"]) {
      const { code, stdout } = await cli(words(typed));
      assert.deepEqual([code, stdout], [0, "selvage 1.2.3\n"], typed);
    }
    const value = JSON.parse((await cli(["version", "-json"])).stdout);
    assert.equal(value.version, "1.2.3");
    assert.match(value.runtime.name, /^(bun|deno|node)$/);
  });

  test("demo passes its flags and its exit code on", async () => {
    const result = await cli(words("demo -hosts 4 -keep -json -size=2"));
    assert.equal(result.code, 7);
    assert.deepEqual(result.demo, {
      hosts: 4,
      backend: "udp",
      generation: 3,
      keep: true,
      json: true,
      size_bytes: 2 * 1024 ** 2,
    });
  });

  test("an error is a JSON problem where JSON was asked for", async () => {
    const { code, stdout, stderr } = await cli(words("status -json -colour"));
    assert.deepEqual([code, stdout], [2, ""]);
    const problem = JSON.parse(stderr);
    assert.deepEqual([problem.code, problem.status], ["invalid_argument", 400]);
    assert.match(problem.detail, /-colour/);
  });

  test("config check needs no daemon", async () => {
    const path = join(dir, "net-conf.json");
    writeFileSync(path, '{"network": "10.7.0.0/16", "Backend": {"Type": "UDP", "Port": 9}}');
    const good = await cli(["config", "check", path]);
    assert.equal(good.code, 0, good.stderr);
    const value = JSON.parse(good.stdout);
    assert.deepEqual([value.SubnetLen, value.Backend], [24, { Type: "udp", Port: 9 }]);
    assert.equal(good.stderr, "");
    writeFileSync(path, '{"Network": "10.7.0.0/16", "Backend": {"Learnin\\u0000": true}}');
    const odd = await cli(["config", "check", path, "-json"]);
    assert.deepEqual([odd.code, JSON.parse(odd.stdout).SubnetLen], [0, 24]);
    assert.match(
      odd.stderr,
      /^warning: .*Backend\.Learnin\? is ignored: udp .*\(it has Port\)\n$/,
    );
    writeFileSync(path, '{"Network": "10.7.0.0/30"}');
    const bad = await cli(["config", "check", path]);
    assert.deepEqual([bad.code, bad.stdout], [1, ""]);
    assert.ok(bad.stderr.includes(path) && bad.stderr.includes("Network"), bad.stderr);
  });
});

describe("selvage check", () => {
  test("its flags, and the exit status of what is not ready", async () => {
    const { code, check, stdout } = await cli(
      words("check -iface=eth0 --net-config n.json -state-dir /d -api-listen=off"),
      new FakeIo({ FLANNELD_SUBNET_FILE: "/s", SELVAGE_API_SOCKET: "/a" }),
    );
    assert.equal(code, 1);
    assert.deepEqual(check, {
      link: { interfaces: ["eth0"], interfaceRegexes: [], canReach: null, publicAddresses: [] },
      allowsNetworkOverlap: false,
      netConfigFile: "n.json",
      etcd: null,
      stateDir: "/d",
      subnetFile: "/s",
      apiSocket: "/a",
      apiListen: null,
      registryListen: null,
    });
    assert.deepEqual(stdout.split("\n"), [
      "CHECK   RESULT   SEEN        TO DO",
      "kernel  missing  Linux 2.6?  Use another.",
      "",
      "works here: udp; not: ipip; not known: vxlan (kernel)",
      "Do it.",
      "",
    ]);
  });

  test("--json", async () => {
    const { code, stdout } = await cli(["check", "--json"]);
    assert.equal(code, 1);
    assert.equal(JSON.parse(stdout).backends.length, 3);
  });
});

describe("selvage clean", () => {
  test("the defaults, and what it tells", async () => {
    const { code, stdout, clean } = await cli(["clean"]);
    assert.deepEqual(clean, {
      whose: "selvage",
      isDryRun: false,
      subnetFile: "/run/flannel/subnet.env",
      removesSubnetFile: false,
      apiSocket: "/run/selvage/api.sock",
      stateDir: "/var/lib/selvage",
      networks: [],
    });
    assert.equal(
      stdout,
      "removed device flannel.1\ncannot remove route 10.5.1.0/24: why\nKept: the rest.\n",
    );
    assert.equal(code, 1, "one could not be removed");
  });

  test("of flannel's", async () => {
    const typed = "clean --flannel --dry-run --network 10.5.0.0/16 --remove-subnet-file --json";
    const { stdout, clean } = await cli(words(typed));
    const { whose, isDryRun, removesSubnetFile, networks } = clean!;
    assert.deepEqual([whose, isDryRun, removesSubnetFile], ["flannel", true, true]);
    assert.deepEqual(networks.map(String), ["10.5.0.0/16"]);
    assert.equal((JSON.parse(stdout) as { steps: unknown[] }).steps.length, 2);
    const wrong = await cli(words("clean --network 10.5.0.0/16"));
    assert.deepEqual([wrong.code, wrong.clean], [2, null]);
  });
});
