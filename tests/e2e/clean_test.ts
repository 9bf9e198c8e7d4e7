/** `selvage clean`: what flanneld or a selvage left is removed, and nothing else. */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";
import type { CleanReport } from "../../src/clean/report.ts";
import {
  type FlannelHost,
  hostGwCommands,
  HOSTS,
  masqueradeCommands,
  NETWORK,
  runAll,
  vxlanCommands,
  writeSubnetEnv,
} from "./flannel_leftovers.ts";
import { difference, takePicture } from "./kernel_picture.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";
import { NamespaceShell } from "./namespace_shell.ts";

const [ONE, TWO] = HOSTS as [FlannelHost, FlannelHost];

/** What a host has that is neither flanneld's nor Selvage's. */
const FURNITURE = [
  "ip link add br7 address 02:00:5e:10:00:07 type bridge",
  "ip link set br7 up",
  "ip addr add 192.0.2.1/24 dev br7",
  "ip link add vxlan9 type vxlan id 9 local 198.18.0.1 dev eth0 dstport 8472 nolearning",
  "ip link add flannel.2 type bridge",
  // In flannel's network, but with another length, of another protocol, or without a gateway.
  "ip route add 10.210.128.0/20 via 192.0.2.9",
  "ip route add 10.210.77.0/24 via 192.0.2.9 proto static",
  "ip route add 10.210.78.0/24 dev br7",
  "ip route add 10.44.0.0/24 via 192.0.2.9",
  "iptables-nft -w -A FORWARD -s 192.0.2.0/24 -m comment --comment mine -j ACCEPT",
  "iptables-nft -w -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE",
  "nft add table ip other",
];

function subnetFile(lab: Lab, host: number): string {
  return join(lab.hostDirectory(host), "subnet.env");
}

/** Runs `selvage clean` on a host. */
function clean(lab: Lab, host: number, ...more: string[]) {
  const directory = lab.hostDirectory(host);
  return lab.exec(
    lab.network(host).host,
    EXECUTABLE.command,
    "clean",
    `--subnet-file=${subnetFile(lab, host)}`,
    `--api-socket=${join(directory, "api.sock")}`,
    `--state-dir=${directory}`,
    ...more,
  );
}

/** The same with `--json`; returns what it tells, a line each. */
function cleaned(lab: Lab, host: number, ...more: string[]): string[] {
  const { status, stdout, stderr } = clean(lab, host, "--json", ...more);
  assert.equal(status, 0, `${stdout}${stderr}`);
  const { steps } = JSON.parse(stdout) as CleanReport;
  return steps.map(({ action, kind, object, result }) => `${action} ${kind} ${object} ${result}`);
}

async function withShells(
  lab: Lab,
  run: (shells: readonly NamespaceShell[]) => Promise<void>,
): Promise<void> {
  const shells = lab.topology.hosts.map(({ host }) => new NamespaceShell(host));
  try {
    await run(shells);
  } finally {
    await Promise.all(shells.map((shell) => shell.end()));
  }
}

describe("what flanneld left", () => {
  test("is named, then removed, and nothing else", () =>
    withLab(1, (lab) =>
      withShells(lab, async ([shell]) => {
        await runAll(shell!, FURNITURE);
        // The chains that iptables makes at its first use are not removed with the last rule.
        const before = await takePicture(shell!);
        await runAll(shell!, [
          ...vxlanCommands(ONE, TWO),
          "ip link add flannel-v6.1 type vxlan id 1 local 2001:db8::1 dev eth0 dstport 8472",
          ...hostGwCommands({ ...TWO, number: 68 }),
          "ip route add blackhole 10.210.52.0/24",
          ...masqueradeCommands(ONE),
          "nft add table ip flannel-ipv4",
          "nft 'add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority 100; }'",
          "nft add rule ip flannel-ipv4 postrtg ip saddr 10.210.0.0/16 masquerade",
          "nft add table ip6 flannel-ipv6",
        ]);
        writeSubnetEnv(subnetFile(lab, 1), ONE, 1450);
        const made = await takePicture(shell!);
        const expected = [
          "remove route 10.210.52.0/24",
          "remove route 10.210.68.0/24 via 198.18.0.2 dev eth0",
          "remove device flannel.1",
          "remove device flannel-v6.1",
          "remove firewall table ip flannel-ipv4",
          "remove firewall table ip6 flannel-ipv6",
          "remove iptables rules ip filter: FLANNEL-FWD, 3 rules",
          "remove iptables rules ip nat: FLANNEL-POSTRTG, 6 rules",
        ];
        const planned = cleaned(lab, 1, "--flannel", "--dry-run");
        assert.deepEqual(planned, expected.map((line) => `${line} planned`));
        assert.deepEqual(await takePicture(shell!), made, "a dry run changes nothing");
        const text = clean(lab, 1, "--flannel", "--dry-run").stdout;
        assert.match(text, /^would remove device flannel\.1$/m);
        assert.match(
          text,
          /^Nothing was changed\. Run the command without --dry-run to do this\.$/m,
        );
        assert.deepEqual(
          cleaned(lab, 1, "--flannel"),
          expected.map((line) => `${line} done`),
        );
        const after = await takePicture(shell!);
        assert.deepEqual(after, before, difference(before, after));
        assert.ok(existsSync(subnetFile(lab, 1)), "subnet.env is kept");
        assert.match(clean(lab, 1, "--flannel").stdout, /^Nothing is left to remove\.$/m);
        assert.deepEqual(cleaned(lab, 1, "--flannel", "--remove-subnet-file"), [
          `remove file ${subnetFile(lab, 1)} done`,
        ]);
        const { stdout } = clean(lab, 1, "--flannel");
        assert.match(stdout, /Routes to peers were not looked for: .* --network/);
      })));

  test("is found by --network, without the routes of others into that network", () =>
    withLab(1, (lab) =>
      withShells(lab, async ([shell]) => {
        await runAll(shell!, [
          ...hostGwCommands({ ...TWO, number: 68 }),
          `ip route add ${NETWORK} via 198.18.0.2`,
          "ip route add 10.210.69.0/24 via 198.18.0.2 metric 500",
        ]);
        assert.deepEqual(cleaned(lab, 1, "--flannel", `--network=${NETWORK}`), [
          "remove route 10.210.68.0/24 via 198.18.0.2 dev eth0 done",
        ]);
        assert.match(await shell!.run("ip route"), /^10\.210\.0\.0\/16 .*\n10\.210\.69\.0\/24 /m);
      })));

  test("in tables of the old iptables is left to the user, with the commands", () =>
    withLab(1, (lab) =>
      withShells(lab, async ([shell]) => {
        const made = await shell!.run("iptables-legacy -w -N FLANNEL-FWD");
        const { stdout } = clean(lab, 1, "--flannel", `--network=${NETWORK}`);
        const command = /iptables-legacy -t filter -D FORWARD .*; .* -X FLANNEL-FWD;/;
        // A kernel without the old tables has nothing to be removed from them.
        if (made === "") assert.match(stdout, command);
        else assert.doesNotMatch(stdout, command);
      })));

  test("is left alone while flanneld runs", () =>
    withLab(1, (lab) =>
      withShells(lab, async ([shell]) => {
        await runAll(shell!, vxlanCommands(ONE, TWO));
        const flanneld = join(lab.directory, "flanneld");
        copyFileSync("/bin/sleep", flanneld);
        chmodSync(flanneld, 0o755);
        const child = spawnInNetns(lab.network(1).host, flanneld, ["1000"], "ignore");
        try {
          const { status, stderr } = clean(lab, 1, "--flannel");
          assert.equal(status, 1);
          assert.match(stderr, new RegExp(`flanneld runs here \\(pid ${child.pid}\\)`));
          assert.match(stderr, /systemctl stop flanneld/);
        } finally {
          await endProcess(child);
        }
        assert.ok(cleaned(lab, 1, "--flannel").includes("remove device flannel.1 done"));
      })));
});

describe("what a selvage left that was killed", () => {
  for (const type of ["vxlan", "host-gw"]) {
    test(`of backend ${type}`, () =>
      withLab(2, (lab) =>
        withShells(lab, async ([shell]) => {
          await runAll(shell!, FURNITURE.slice(0, 5));
          const dropping = "type filter hook forward priority 0; policy drop;";
          await shell!.run(`nft 'add table ip site; add chain ip site f { ${dropping} }'`);
          const before = await takePicture(shell!);
          await lab.startRegistry({ Network: NETWORK, Backend: { Type: type } }, ["--ip-masq"]);
          await lab.startJoined(2);
          await lab.untilPeers(1, 1, 2);
          const { status, stderr } = clean(lab, 1);
          assert.equal(status, 1);
          assert.match(stderr, /another selvage runs in this network namespace \(pid \d+\)/);
          await lab.kill(1);
          const socket = join(lab.hostDirectory(1), "api.sock");
          const planned = cleaned(lab, 1, "--dry-run");
          assert.ok(existsSync(socket));
          const done = cleaned(lab, 1);
          assert.deepEqual(done, planned.map((line) => line.replace("planned", "done")));
          const hasDevice = done.includes("remove device selvage.1 done");
          assert.equal(hasDevice, type === "vxlan");
          assert.ok(done.includes("remove firewall table ip selvage done"));
          const rules = "remove accept rules in ip site f: selvage: forward the overlay done";
          assert.ok(done.includes(rules), done.join());
          assert.ok(done.includes(`remove file ${socket} done`));
          assert.ok(!existsSync(socket));
          assert.ok(existsSync(join(lab.hostDirectory(1), "registry.db")), "the state is kept");
          assert.ok(existsSync(subnetFile(lab, 1)), "the subnet file is kept");
          const after = await takePicture(shell!);
          assert.deepEqual(after, before, difference(before, after));
          assert.match(clean(lab, 1).stdout, /^Nothing is left to remove\.\nKept: /);
        })));
  }
});
