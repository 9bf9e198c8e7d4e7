/** `selvage check` of the built executable, on hosts that lack something. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { IpAddress } from "../../src/net/ip.ts";
import { closeFd } from "../../ffi/fd.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import type { CheckReport, CheckRow } from "../../src/check/report.ts";
import { AS_NOBODY, EXECUTABLE, type Lab, withLab } from "./lab.ts";

const TIMEOUT_MS = 20_000;

interface Outcome {
  readonly status: number | null;
  readonly report: CheckReport;
  row(name: string): CheckRow;
}

function flags(lab: Lab): string[] {
  return [
    "--iface=eth0",
    `--state-dir=${join(lab.directory, "state")}`,
    `--subnet-file=${join(lab.directory, "flannel", "subnet.env")}`,
    `--api-socket=${join(lab.directory, "api", "api.sock")}`,
  ];
}

/** Checks host 1, started by way of `before`; what it chooses by `more` is in place of eth0. */
function check(lab: Lab, more: readonly string[] = [], before: readonly string[] = []): Outcome {
  const isChoice = more.some((flag) => flag.startsWith("--iface"));
  const own = flags(lab).filter((flag) => !(isChoice && flag.startsWith("--iface")));
  const words = [...before, EXECUTABLE.command, "check", "--json", ...own, ...more];
  const { status, stdout, stderr } = lab.exec(lab.network(1).host, words[0]!, ...words.slice(1));
  assert.equal(stderr, "");
  const report = JSON.parse(stdout) as CheckReport;
  const row = (name: string) => {
    const found = report.checks.find((one) => one.name === name);
    assert.ok(found, `no row ${name} in ${stdout}`);
    return found;
  };
  return { status, report, row };
}

/** Host 1 as far as a check could have changed it. */
function stateOf(lab: Lab): string {
  const { host } = lab.network(1);
  const outputs = [["link"], ["addr"], ["route"], ["neigh"]].map((words) =>
    lab.exec(host, "ip", ...words).stdout
  );
  return [...outputs, ...readdirSync(lab.directory)].join("\n");
}

/** The words that start a command where `/dev/net/tun` has this mode. */
function withTunMode(mode: string): string[] {
  const script = "mount -t tmpfs tmpfs /dev/net && mknod /dev/net/tun c 10 200 && " +
    `chmod ${mode} /dev/net/tun && exec "$@"`;
  return ["unshare", "--mount", "sh", "-c", script, "sh"];
}

function setSysctl(lab: Lab, path: string, value: string): void {
  const script = `echo ${value} > /proc/sys/${path}`;
  assert.equal(lab.exec(lab.network(1).host, "sh", "-c", script).status, 0);
}

function configFile(lab: Lab, config: unknown): string {
  const file = join(lab.directory, "net-conf.json");
  writeFileSync(file, JSON.stringify(config));
  return `--net-config=${file}`;
}

test("a good host: all is told, and nothing is changed", () =>
  withLab(1, (lab) => {
    setSysctl(lab, "net/ipv4/ip_forward", "1");
    const before = stateOf(lab);
    const { status, report, row } = check(lab);
    assert.equal(status, 0, JSON.stringify(report));
    assert.equal(report.ready, true);
    for (const name of ["kernel", "CAP_NET_ADMIN", "/dev/net/tun", "IPv4 forwarding"]) {
      assert.equal(row(name).result, "ok", name);
    }
    assert.match(row("TUN device").seen, /csum, tso.*multi-queue/);
    assert.match(row("outer interface").seen, /^eth0, 198\.18\.0\.1, MTU 1500$/);
    assert.match(row("inner MTU").seen, /udp 1472, vxlan 1450/);
    const names = report.backends.filter(({ works }) => works).map(({ name }) => name);
    assert.ok(names.includes("udp") && names.includes("host-gw"));
    assert.equal(stateOf(lab), before);
    for (const name of ["state", "flannel", "api"]) {
      assert.ok(!existsSync(join(lab.directory, name)), `${name} was made`);
    }
    return Promise.resolve();
  }));

test("as text: a table, the backends, and what to do next", () =>
  withLab(1, (lab) => {
    const words = ["check", ...flags(lab)];
    const { stdout, stderr } = lab.exec(lab.network(1).host, EXECUTABLE.command, ...words);
    assert.equal(stderr, "");
    assert.match(stdout, /^CHECK +RESULT +SEEN +TO DO\n/);
    assert.match(stdout, /\nworks here: udp, /);
    assert.match(stdout, /selvage run.*\n$/);
    return Promise.resolve();
  }));

describe("something is missing", () => {
  test("forwarding", () =>
    withLab(1, (lab) => {
      setSysctl(lab, "net/ipv4/ip_forward", "0");
      const { row } = check(lab);
      assert.equal(row("IPv4 forwarding").result, "warning");
      assert.match(row("IPv4 forwarding").advice, /sysctl -w net\.ipv4\.ip_forward=1/);
      return Promise.resolve();
    }));

  test("the port of the configuration", () =>
    withLab(1, (lab) => {
      const config = configFile(lab, { Network: "10.210.0.0/16", Backend: { Port: 9000 } });
      const address = lab.network(1).outerAddress.toBytes();
      const fd = withNetns(lab.network(1).host, () => openUdpSocket(address, 9000));
      try {
        const { status, report, row } = check(lab, [config]);
        assert.equal(status, 1);
        assert.equal(row("UDP of udp port").result, "missing");
        assert.match(row("UDP of udp port").seen, /198\.18\.0\.1:9000/);
        assert.match(report.next, /UDP of udp port/);
        assert.deepEqual(report.backends.map(({ name, works }) => [name, works]), [["udp", false]]);
      } finally {
        closeFd(fd);
      }
      assert.equal(check(lab, [config]).status, 0, "and it is free again");
      return Promise.resolve();
    }));

  test("vxlan's port, which a program holds at the loopback, or beside a device of ours", () =>
    withLab(1, (lab) => {
      const { host } = lab.network(1);
      const config = configFile(lab, { Network: "10.210.0.0/16", Backend: { Type: "vxlan" } });
      const worksOf = ({ report }: Outcome) =>
        Object.fromEntries(report.backends.map(({ name, works }) => [name, works]));
      const program = (address: string) =>
        withNetns(host, () => openUdpSocket(IpAddress.parse(address).toBytes(), 8472));
      const loopback = program("127.0.0.1");
      const elsewhere = check(lab, [config]);
      closeFd(loopback);
      assert.deepEqual(worksOf(elsewhere), { "vxlan (userspace)": true, "vxlan (kernel)": false });
      assert.match(
        elsewhere.row("UDP of vxlan port").seen,
        /0\.0\.0\.0:8472.* by \S+ \(process \d+\)/,
      );
      // A device that is down holds no port.
      const link = "link add selvage.1 type vxlan id 1 dstport 8472 local 198.18.0.1 dev eth0";
      assert.equal(lab.exec(host, "ip", ...link.split(" ")).status, 0);
      const own = program("198.18.0.1");
      const taken = check(lab, [config]);
      closeFd(own);
      assert.deepEqual(worksOf(taken), { "vxlan (userspace)": false, "vxlan (kernel)": false });
      assert.equal(taken.status, 1);
      assert.equal(check(lab, [config]).status, 0, "and it is free again");
      return Promise.resolve();
    }));

  test("a place for vxlan's device: a bridge of its name, or another device of its VNI", () =>
    withLab(1, (lab) => {
      const { host } = lab.network(1);
      const ip = (words: string) => {
        assert.equal(lab.exec(host, "ip", ...words.split(" ")).status, 0, words);
      };
      const config = configFile(lab, { Network: "10.210.0.0/16", Backend: { Type: "vxlan" } });
      assert.equal(check(lab, [config]).status, 0);
      ip("link add selvage.1 type bridge");
      const named = check(lab, [config]);
      assert.equal(named.status, 1);
      assert.match(named.row("device selvage.1").seen, /not ours: bridge/);
      ip("link delete selvage.1");
      ip("link add foreign type vxlan id 1 dstport 8472 local 198.18.0.1 dev eth0");
      ip("link set foreign up");
      const taken = check(lab, [config]);
      assert.equal(taken.status, 1);
      assert.match(taken.row("VNI 1, port 8472").seen, /in use by device foreign/);
      const other = { Network: "10.210.0.0/16", Backend: { Type: "vxlan", VNI: 2 } };
      assert.equal(check(lab, [configFile(lab, other)]).status, 0);
      return Promise.resolve();
    }));

  test("nothing, though a selvage runs that has no device", () =>
    withLab(1, async (lab) => {
      await lab.startRegistry({ Network: "10.210.0.0/16", Backend: { Type: "host-gw" } });
      const socket = join(lab.hostDirectory(1), "api.sock");
      const { status, row } = check(lab, [`--api-socket=${socket}`]);
      assert.equal(row("API port").result, "warning");
      assert.match(row("API port").advice, /the selvage that runs here/);
      assert.equal(status, 0);
    }));

  test("a rule that lets the overlay pass: chains that drop are named", () =>
    withLab(1, (lab) => {
      const { host } = lab.network(1);
      assert.equal(check(lab).row("forward chains").result, "ok");
      const chain = "{ type filter hook forward priority 0; policy drop; }";
      for (
        const words of [["add", "table", "inet", "own"], ["add", "chain", "inet own f", chain]]
      ) {
        assert.equal(lab.exec(host, "nft", words.join(" ")).status, 0);
      }
      const { status, row } = check(lab);
      assert.equal(status, 0);
      const { result, seen, advice } = row("forward chains");
      assert.equal(result, "ok");
      assert.match(
        seen,
        /^chain f of table inet own \(policy drop\): .* selvage run inserts rules/,
      );
      assert.match(advice, /--iptables-forward-rules=own/);
      return Promise.resolve();
    }));

  test("IPv6", () =>
    withLab(1, (lab) => {
      setSysctl(lab, "net/ipv6/conf/all/disable_ipv6", "1");
      const without = check(lab);
      assert.equal(without.row("IPv6 forwarding").result, "warning");
      assert.match(without.row("IPv6 forwarding").seen, /no IPv6/);
      assert.equal(without.status, 0);
      const config = {
        Network: "10.210.0.0/16",
        EnableIPv6: true,
        IPv6Network: "fd00:210::/48",
        Backend: { Type: "vxlan" },
      };
      const asked = check(lab, [configFile(lab, config)]);
      assert.equal(asked.row("IPv6 forwarding").result, "missing");
      assert.equal(asked.status, 1);
      return Promise.resolve();
    }));

  // Both modes are made by the test, because /dev/net/tun is 0666 on some hosts and 0600 on others.
  for (
    const [mode, name, result, seen] of [
      ["666", "TUN device", "warning", /not looked at/],
      ["600", "/dev/net/tun", "missing", /EACCES/],
    ] as const
  ) {
    test(`root, with mode 0${mode} of /dev/net/tun`, () =>
      withLab(1, (lab) => {
        const before = [...withTunMode(mode), ...AS_NOBODY];
        const { status, report, row } = check(lab, [], before);
        assert.equal(status, 1);
        assert.equal(row("CAP_NET_ADMIN").result, "missing");
        assert.match(report.next, /CAP_NET_ADMIN.*root/);
        assert.equal(row(name).result, result);
        assert.match(row(name).seen, seen);
        if (result === "missing") assert.match(row(name).advice, /root/);
        assert.equal(row("outer interface").result, "ok", "what can be seen is told");
        assert.equal(row("state directory").result, "missing");
        return Promise.resolve();
      }));
  }

  test("CAP_SYS_ADMIN alone: the daemon does without", () =>
    withLab(1, (lab) => {
      const before = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
      const { status, row } = check(lab, [], before);
      assert.match(row("TUN device").seen, /multi-queue; offloads not looked at: .*CAP_SYS_ADMIN/);
      assert.equal(row("CAP_NET_ADMIN").result, "ok");
      assert.equal(status, 0);
      return Promise.resolve();
    }));

  test("the interface", () =>
    withLab(1, (lab) => {
      const { status, row } = check(lab, ["--iface=eth9"]);
      assert.equal(status, 1);
      assert.match(row("outer interface").seen, /eth9/);
      assert.match(row("outer interface").advice, /eth0/);
      return Promise.resolve();
    }));

  test("an IPv4 address, which the daemon needs whatever the network carries", () =>
    withLab(1, (lab) => {
      const { host } = lab.network(1);
      for (const act of ["addr flush dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad"]) {
        assert.equal(lab.exec(host, "ip", ...act.split(" ")).status, 0);
      }
      const config = { EnableIPv4: false, EnableIPv6: true, IPv6Network: "fd00:210::/48" };
      const vxlan = configFile(lab, { ...config, Backend: { Type: "vxlan" } });
      const { status, row } = check(lab, [vxlan]);
      assert.equal(status, 1);
      assert.match(row("outer interface").seen, /no usable IPv4 address/);
      return Promise.resolve();
    }));
});

test("a configuration that cannot be read is an error of its own", () =>
  withLab(1, (lab) => {
    const { status, stdout, stderr } = withNetns(
      lab.network(1).host,
      () =>
        spawnSync(EXECUTABLE.command, ["check", "--net-config=/no/such"], {
          encoding: "utf8",
          timeout: TIMEOUT_MS,
        }),
    );
    assert.equal(status, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /selvage: .*\/no\/such/);
    return Promise.resolve();
  }));
