/**
 * Bad input to the built executable: a clear error that names what and where, a non-zero exit
 * status, and nothing changed.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { AS_NOBODY, EXECUTABLE, holdTcpPort, Lab, withLab } from "./lab.ts";

const TIMEOUT_MS = 20_000;

interface Failure {
  readonly status: number | null;
  readonly stderr: string;
}

/** The flags by which a daemon leaves all its traces in one directory. */
function placeFlags(directory: string): string[] {
  return [
    "--iface=eth0",
    `--state-dir=${join(directory, "state")}`,
    `--subnet-file=${join(directory, "subnet.env")}`,
    `--api-socket=${join(directory, "api.sock")}`,
  ];
}

/** Runs a command in host 1's namespace to its end. */
function runInHost(lab: Lab, command: string, args: readonly string[]): Failure {
  const { status, stderr } = withNetns(
    lab.network(1).host,
    () => spawnSync(command, args, { encoding: "utf8", timeout: TIMEOUT_MS }),
  );
  return { status, stderr };
}

/** Holds that nothing of a failed start is left on host 1. */
function assertUntouched(lab: Lab, directory: string): void {
  for (const name of ["subnet.env", "api.sock"]) {
    assert.ok(!existsSync(join(directory, name)), `${name} was left`);
  }
  const registry = join(directory, "state", "registry.db");
  if (existsSync(registry)) {
    const database = new DatabaseSync(registry, { readOnly: true });
    for (const table of ["config", "leases", "events"]) {
      const row = database.prepare(`SELECT count(*) AS count FROM ${table}`).get();
      assert.equal(row?.count, 0, `${table} of the registry`);
    }
    database.close();
  }
  const { stdout } = lab.exec(lab.network(1).host, "ip", "-o", "route", "show", "proto", "83");
  assert.equal(stdout, "");
}

/**
 * Starts `selvage run` with these flags and holds that it fails as described and leaves nothing.
 * `isShared`: another daemon runs on this host, and what is in the kernel is its.
 */
function assertRefused(
  lab: Lab,
  flags: readonly string[],
  expected: { status: number; text: RegExp },
  isShared = false,
): void {
  const directory = join(lab.directory, "refused");
  mkdirSync(directory, { recursive: true });
  const isChoice = flags.some((flag) => flag.startsWith("--iface"));
  const place = placeFlags(directory).filter((flag) =>
    !(isChoice && flag === "--iface=eth0") &&
    !flags.some((other) => other.startsWith(flag.split("=")[0]!))
  );
  const { status, stderr } = runInHost(lab, EXECUTABLE.command, ["run", ...place, ...flags]);
  assert.match(stderr, expected.text);
  assert.equal(status, expected.status, stderr);
  const lines = stderr.split("\n").filter((line) => line.startsWith("selvage: "));
  assert.equal(lines.length, 1, `said once: ${stderr}`);
  if (!isShared) assertUntouched(lab, directory);
  rmSync(directory, { recursive: true, force: true });
}

describe("flags that cannot be right", () => {
  const ROWS: [string[], RegExp][] = [
    [["--no-such-flag"], /no-such-flag/],
    [["--ifcae=eth0"], /ifcae/],
    [["--public-ip=300.1.1.1"], /public-ip.*300\.1\.1\.1/],
    [["--public-ip=fc00::1"], /public-ip/],
    [["--public-ip=127.0.0.1"], /public-ip.*a host's address/],
    [["--public-ip=255.255.255.255"], /public-ip.*a host's address/],
    [["--registry-listen=127.0.0.1:0"], /registry-listen.*port 0/],
    [["--subnet-lease-renew-margin=0"], /subnet-lease-renew-margin.*0/],
    [["--subnet-lease-renew-margin=1440"], /1440/],
    [["--api-listen=nonsense"], /api-listen.*nonsense/],
    [["--registry-listen=127.0.0.1:70000"], /registry-listen.*70000/],
    [["--iface-regex=("], /iface-regex/],
    [["--log-level=loud"], /log-level.*loud/],
    [["stray"], /stray|too many arguments/],
    [["--join=x", "--net-config=y"], /exclude each other/],
  ];
  for (const [flags, text] of ROWS) {
    test(flags.join(" "), () =>
      withLab(1, (lab) => {
        assertRefused(lab, flags, { status: 2, text });
        return Promise.resolve();
      }));
  }
});

describe("network configurations that break their rules", () => {
  const ROWS: [string, unknown, RegExp][] = [
    ["not JSON", "{", /JSON/],
    ["a bad CIDR", { Network: "10.210.0.0/33" }, /Network.*10\.210\.0\.0\/33/],
    ["no Network", {}, /Network/],
    ["a loopback network", { Network: "127.0.0.0/8" }, /Network.*127\.0\.0\.0\/8/],
    ["a multicast network", { Network: "224.0.0.0/8" }, /Network.*224\.0\.0\.0/],
    ["a network too small", { Network: "10.210.0.0/29" }, /10\.210\.0\.0\/29/],
    ["SubnetLen too long", { Network: "10.210.0.0/16", SubnetLen: 31 }, /SubnetLen/],
    ["SubnetLen too short", { Network: "10.210.0.0/16", SubnetLen: 17 }, /SubnetLen/],
    [
      "SubnetMin off its boundary",
      { Network: "10.210.0.0/16", SubnetMin: "10.210.1.5" },
      /SubnetMin.*10\.210\.1\.5/,
    ],
    ["SubnetMax outside", { Network: "10.210.0.0/16", SubnetMax: "10.211.0.0" }, /SubnetMax/],
    ["Min above Max", {
      Network: "10.210.0.0/16",
      SubnetMin: "10.210.9.0",
      SubnetMax: "10.210.3.0",
    }, /SubnetM/],
    ["overlapping the outer network", { Network: "198.18.0.0/16" }, /198\.18\.0\.1.*198\.18\.0\.0/],
    ["an unknown backend", { Network: "10.210.0.0/16", Backend: { Type: "smoke" } }, /smoke/],
    ["a bad port", { Network: "10.210.0.0/16", Backend: { Type: "udp", Port: 70000 } }, /70000/],
    [
      "IPv6 with udp",
      { Network: "10.210.0.0/16", EnableIPv6: true, IPv6Network: "fc00::/48" },
      /carries only IPv4/,
    ],
  ];
  for (const [name, config, text] of ROWS) {
    test(name, () =>
      withLab(1, (lab) => {
        const file = join(lab.directory, "bad-net-conf.json");
        writeFileSync(file, typeof config === "string" ? config : JSON.stringify(config));
        assertRefused(lab, [`--net-config=${file}`], { status: 1, text });
        return Promise.resolve();
      }));
  }
});

describe("files, names and strings that do not fit", () => {
  const ROWS: [string[], RegExp][] = [
    [["--net-config=/no/such/file"], /\/no\/such\/file/],
    [["--net-config=/"], /read \/|directory/],
    [["--iface=eth9"], /eth9.*eth0/s],
    [["--iface-regex=^wlan"], /\^wlan.*eth0/s],
    [["--join=@/no/such/file"], /\/no\/such\/file/],
    [["--join=hello"], /not a join string/],
    [["--join=selvage1.AAAA"], /cut short|mistyped/],
    [["--join=selvage99.AAAA"], /newer/],
    [["--state-dir=/dev/null"], /\/dev\/null/],
  ];
  for (const [flags, text] of ROWS) {
    test(flags.join(" "), () =>
      withLab(1, (lab) => {
        assertRefused(lab, flags, { status: 1, text });
        return Promise.resolve();
      }));
  }

  test("a join string with another secret, and one with another fingerprint", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry();
      const { stdout } = lab.run(1, ["token", "create"]);
      const body = Buffer.from(stdout.trim().split(".")[1]!, "base64url").subarray(0, -4);
      const join = JSON.parse(body.toString()) as { token: string; fingerprint: string };
      const { formatJoinString, parseJoinString } = await import(
        "../../src/registry/join_string.ts"
      );
      const real = parseJoinString(stdout);
      const [id] = join.token.split(".");
      const wrongToken = formatJoinString({ ...real, token: `${id}.${"A".repeat(43)}` });
      assertRefused(lab2(lab), [`--join=${wrongToken}`], { status: 1, text: /token/ });
      const other = formatJoinString({ ...real, fingerprint: "0".repeat(64) });
      assertRefused(lab2(lab), [`--join=${other}`], { status: 1, text: /certificate|fingerprint/ });
    }));
});

/** The same lab with host 2 in the place of host 1. */
function lab2(lab: Lab): Lab {
  return Object.create(lab, { network: { value: () => Lab.prototype.network.call(lab, 2) } });
}

/** The flag of a good network configuration. */
function goodConfig(lab: Lab): string {
  const file = join(lab.directory, "good-net-conf.json");
  writeFileSync(file, JSON.stringify({ Network: "10.210.0.0/16" }));
  return `--net-config=${file}`;
}

describe("what others hold already", () => {
  for (
    const [backend, port] of [
      [{ Type: "udp" }, 8285],
      [{ Type: "vxlan", Datapath: "userspace" }, 8472],
      [{ Type: "vxlan" }, 8472],
    ] as const
  ) {
    test(`the UDP port, which is waited for: ${JSON.stringify(backend)}`, () =>
      withLab(1, async (lab) => {
        const address = lab.network(1).outerAddress.toBytes();
        const fd = withNetns(lab.network(1).host, () => openUdpSocket(address, port));
        let isHeld = true;
        try {
          const ready = lab.startRegistry({ Network: "10.210.0.0/16", Backend: backend });
          const holder = new RegExp(
            `UDP port ${port} .*is in use by \\S+ \\(process ${process.pid}, user 0\\)`,
          );
          const waiting = await lab.until(
            1,
            "it does not wait",
            (status) => holder.test(status.waitingFor ?? ""),
          );
          assert.deepEqual([waiting.ready, waiting.lease], [false, null]);
          assert.match(lab.log(1), /WARNING .*waiting: UDP port/);
          closeFd(fd);
          isHeld = false;
          assert.equal((await ready).ready, true);
        } finally {
          if (isHeld) closeFd(fd);
        }
      }));
  }

  test("the device's name, a persistent TUN of someone else's", () =>
    withLab(1, (lab) => {
      const { host } = lab.network(1);
      lab.exec(host, "ip", "tuntap", "add", "dev", "selvage0", "mode", "tun");
      assertRefused(lab, [goodConfig(lab)], { status: 1, text: /selvage0.*(exists|taken)/ });
      const { stdout } = lab.exec(host, "ip", "-o", "link", "show", "selvage0");
      assert.match(stdout, /selvage0/, "the foreign device was left alone");
      return Promise.resolve();
    }));

  test("the port of --registry-listen", () =>
    withLab(1, (lab) => {
      const fd = withNetns(lab.network(1).host, () => holdTcpPort(8300));
      try {
        const text = /127\.0\.0\.1:8300 is in use by \S+ \(process \d+, user 0\)/;
        const flags = [goodConfig(lab), "--registry-listen=127.0.0.1:8300"];
        assertRefused(lab, flags, { status: 1, text });
      } finally {
        closeFd(fd);
      }
      return Promise.resolve();
    }));

  test("the API socket: a selvage of another network namespace", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry();
      const socket = join(lab.hostDirectory(1), "api.sock");
      const flags = [
        "run",
        "--iface=eth0",
        goodConfig(lab),
        `--api-socket=${socket}`,
        `--state-dir=${join(lab.directory, "other")}`,
        `--subnet-file=${join(lab.directory, "s.env")}`,
      ];
      const { host } = lab.network(2);
      const { status, stderr } = lab.exec(host, EXECUTABLE.command, ...flags);
      assert.equal(status, 1);
      assert.match(stderr, /selvage: .*api\.sock/);
      assert.equal((await lab.host(1).status())?.phase, "ready", "the first is unharmed");
    }));
});

test("a second daemon on this host is refused, and the first forwards on", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    const ping = lab.startPing(1, 2);
    await ping.flowing();
    assertRefused(lab, ["--api-listen=off", goodConfig(lab)], {
      status: 1,
      text: /another selvage runs in this network namespace \(pid \d+\)/,
    }, true);
    await ping.flowing(20);
    assert.deepEqual(await ping.endAndListLost(), []);
  }));

for (
  const [what, file] of [
    ["a directory", "."],
    ["below a plain file", "bad-place/x/subnet.env"],
  ] as const
) {
  test(`a subnet file that is ${what}: nothing is changed`, () =>
    withLab(1, (lab) => {
      writeFileSync(join(lab.directory, "bad-place"), "plain");
      const flags = [goodConfig(lab), `--subnet-file=${join(lab.directory, file)}`];
      assertRefused(lab, flags, { status: 1, text: /selvage: cannot write .*: / });
      return Promise.resolve();
    }));
}

test("a configuration that is refused is not in force at the next start", () =>
  withLab(1, async (lab) => {
    const bad = join(lab.directory, "bad.json");
    const value = { Network: "10.210.0.0/16", EnableIPv6: true, IPv6Network: "fc00::/48" };
    writeFileSync(bad, JSON.stringify(value));
    const state = `--state-dir=${lab.hostDirectory(1)}`;
    const flags = [state, `--net-config=${bad}`];
    assertRefused(lab, flags, { status: 1, text: /carries only IPv4/ });
    lab.launch(1, []);
    const isWaiting = ({ phase }: { phase: string }) => phase === "waiting_for_config";
    const status = await lab.until(1, "not waiting", isWaiting);
    assert.match(status.waitingFor!, /no network configuration/);
  }));

describe("what this host does not give", () => {
  test("no root", () =>
    withLab(1, (lab) => {
      const place = placeFlags(join(lab.directory, "none"));
      const [command, ...words] = [...AS_NOBODY, EXECUTABLE.command, "run", ...place];
      const { status, stderr } = runInHost(lab, command!, words);
      assert.equal(status, 1);
      assert.match(stderr, /CAP_NET_ADMIN/);
      assert.match(stderr, /root/);
      return Promise.resolve();
    }));

  test("no /dev/net/tun", () =>
    withLab(1, (lab) => {
      const file = join(lab.directory, "net-conf.json");
      writeFileSync(file, JSON.stringify({ Network: "10.210.0.0/16" }));
      const place = placeFlags(join(lab.directory, "none"));
      const run = [EXECUTABLE.command, "run", `--net-config=${file}`, ...place];
      const script = 'mount -t tmpfs none /dev/net && exec "$@"';
      const words = ["--mount", "sh", "-c", script, "sh", ...run];
      const { status, stderr } = runInHost(lab, "unshare", words);
      assert.equal(status, 1);
      assert.match(stderr, /\/dev\/net\/tun/);
      return Promise.resolve();
    }));
});

describe("commands of a running daemon", () => {
  const ROWS: [string[], number, RegExp][] = [
    [["leases", "revoke", "10.210.0.0/24"], 1, /10\.210\.0\.0/],
    [["leases", "revoke", "nonsense"], 2, /nonsense/],
    [["leases", "reserve", "10.211.0.0/24", "--public-ip=198.18.0.9"], 1, /10\.211\.0\.0/],
    [["leases", "reserve", "10.210.9.0/24"], 2, /public-ip/],
    [["token", "revoke", "000000000000"], 1, /000000000000/],
    [["token", "create", "--scope=all"], 2, /scope/],
    [["status", "--no-such"], 2, /no-such/],
    [["leases", "lsit"], 2, /lsit/],
    [["status", "--api-socket=/no/such.sock"], 1, /\/no\/such\.sock/],
    [["status", "--api=http://127.0.0.1:1"], 1, /127\.0\.0\.1:1/],
  ];
  test("each is refused with its own error", () =>
    withLab(1, async (lab) => {
      await lab.startRegistry();
      for (const [args, status, text] of ROWS) {
        const result = lab.run(1, args);
        assert.equal(result.status, status, `${args.join(" ")}: ${result.stderr}`);
        assert.match(result.stderr, text);
        assert.equal(result.stdout, "");
      }
    }));

  test("no daemon: says so, and what to do", () =>
    withLab(1, (lab) => {
      const { status, stderr } = lab.run(1, ["status"]);
      assert.equal(status, 1);
      assert.match(stderr, /no socket at .*api\.sock/);
      assert.match(stderr, /selvage run/);
      return Promise.resolve();
    }));
});
