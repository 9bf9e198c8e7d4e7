/**
 * The shipped systemd unit: in a sandbox that follows its directives, and under a real systemd,
 * which enables, starts, restarts, upgrades and stops it.
 */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, renameSync, statSync } from "node:fs";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import type { Status } from "../../src/agent/status.ts";
import { openClient } from "../../src/cli/client.ts";
import { endProcess } from "../../src/demo/child.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { type Lab, withLab } from "./lab.ts";
import { startSandboxed, SystemdHost, whyNoSystemd } from "./service_root.ts";

const TIMEOUT_MS = 60_000;
const VXLAN = { Network: "10.210.0.0/16", Backend: { Type: "vxlan" } };

/** The host that runs the unit finds its interface by the default route, as a real one does. */
function addDefaultRoute(lab: Lab, host: number): void {
  const gateway = String(lab.network(1).outerAddress);
  lab.exec(lab.network(host).host, "ip", "route", "add", "default", "via", gateway);
}

/** Waits for a status at a socket that is as wished. */
async function untilStatus(
  apiSocket: string,
  isReached: (status: Status) => boolean,
  log: () => string,
): Promise<Status> {
  const end_ms = performance.now() + TIMEOUT_MS;
  while (true) {
    try {
      const response = await openClient({ apiSocket }).v1.status.$get();
      const status = await response.json() as Status;
      if (isReached(status)) return status;
    } catch {
      // It does not listen yet.
    }
    assert.ok(performance.now() < end_ms, log());
    await setTimeout(50);
  }
}

const isReady = (status: Status) => status.ready && status.backend?.peerCount === 1;

/** Gives the host of this status a container. */
async function attach(lab: Lab, host: number, status: Status): Promise<void> {
  const subnet = IpPrefix.parse(status.lease!.subnets[0]!);
  const mtu_bytes = status.backend!.mtu_bytes;
  lab.containers[host - 1] = await lab.topology.attachContainer(
    lab.network(host),
    subnet,
    mtu_bytes,
  );
}

test("in the unit's sandbox, without systemd, the daemon starts and packets flow", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    addDefaultRoute(lab, 2);
    const child = await startSandboxed(lab, 2);
    try {
      const root = `/proc/${child.pid}/root`;
      const log = () => lab.log(2);
      const status = await untilStatus(`${root}/run/selvage/api.sock`, isReady, log);
      assert.deepEqual(status.problems, []);
      assert.ok(existsSync(`${root}/run/flannel/subnet.env`));
      await lab.attach(1);
      await attach(lab, 2, status);
      await lab.untilPing(1, 2);
      lab.assertPings([1, 2], [2, 1]);
    } finally {
      await endProcess(child);
    }
  }));

/** Ends every ping with all of its requests answered. */
async function assertNothingLost(lab: Lab, what: string, act: () => Promise<void>): Promise<void> {
  const pings = [lab.startPing(1, 2), lab.startPing(2, 1)];
  for (const ping of pings) await ping.flowing();
  await act();
  for (const ping of pings) {
    await ping.flowing();
    assert.deepEqual(await ping.endAndListLost(), [], what);
  }
}

/** The unit's process as this test sees it. */
function mainProcess(host: SystemdHost) {
  const pid = Number(host.show("MainPID"));
  const { dev, ino } = statSync(host.path(`/proc/${pid}/exe`));
  return { pid, executable: `${dev}:${ino}` };
}

/** A new executable takes the old one's name, as a package manager does it. */
function replaceExecutable(host: SystemdHost): void {
  const place = host.path("/usr/local/bin/selvage");
  copyFileSync(place, `${place}.new`);
  renameSync(`${place}.new`, place);
}

/** The unit's capabilities and directories suffice for all that the daemon does to the kernel. */
function assertAllowed(host: SystemdHost, status: Status): void {
  assert.deepEqual(status.problems, [], "started with its boot");
  assert.equal(status.guard?.state, "on");
  const { devices, tunnels } = status.backend!;
  const device = devices[0]?.name ?? tunnels[0]!.device;
  const names = ["ipv4/ip_forward", `ipv6/conf/${device}/accept_ra`];
  const paths = names.map((name) => `/proc/sys/net/${name}`);
  assert.equal(host.run("cat", ...paths).stdout, "1\n0\n", "switches of the kernel");
}

async function tryUnit(lab: Lab, host: SystemdHost): Promise<void> {
  const apiSocket = host.path("/run/selvage/api.sock");
  const untilReady = () => untilStatus(apiSocket, isReady, () => host.journal());
  const status = await untilReady();
  assertAllowed(host, status);
  assert.equal(host.systemctl("is-enabled", "selvage"), "enabled");
  assert.equal(host.systemctl("is-active", "selvage"), "active");
  assert.match(host.show("StatusText"), /^holding 10\.210\./);
  assert.match(host.selvage("status").stdout, /ready/);
  const subnetFile = host.path("/run/flannel/subnet.env");
  const subnetText = readFileSync(subnetFile, "utf8");
  await lab.attach(1);
  await attach(lab, 2, status);
  await lab.untilPing(1, 2);
  await lab.untilPing(2, 1);

  const first = mainProcess(host);
  await assertNothingLost(lab, "lost at a restart", async () => {
    host.systemctl("restart", "selvage");
    await untilReady();
  });
  assert.notEqual(mainProcess(host).pid, first.pid);

  replaceExecutable(host);
  await assertNothingLost(lab, "lost at an upgrade", async () => {
    host.systemctl("restart", "selvage");
    await untilReady();
  });
  const upgraded = mainProcess(host);
  assert.notEqual(upgraded.executable, first.executable);

  await assertNothingLost(lab, "lost when the process was killed", async () => {
    host.systemctl("kill", "--signal=KILL", "selvage");
    const end_ms = performance.now() + TIMEOUT_MS;
    while ([0, upgraded.pid].includes(Number(host.show("MainPID")))) {
      assert.ok(performance.now() < end_ms, host.journal());
      await setTimeout(100);
    }
    await untilReady();
  });

  await assertNothingLost(lab, "lost at a stop", async () => {
    host.systemctl("stop", "selvage");
    assert.equal(host.show("ActiveState"), "inactive");
    assert.equal(host.show("Result"), "success");
    assert.equal(readFileSync(subnetFile, "utf8"), subnetText, "containers can still be made");
    await setTimeout(200);
  });
  assert.ok(!existsSync(apiSocket), "the socket of a stopped daemon is gone");
  host.systemctl("start", "selvage");
  const again = await untilReady();
  assert.deepEqual(again.lease!.subnets, status.lease!.subnets);
}

const whyNot = whyNoSystemd();
if (whyNot !== null) console.error(`The unit is not tried under systemd here: ${whyNot}`);

/** Runs `work` with a host of the lab that runs systemd, and with host 1 as its registry. */
function withSystemd(config: unknown, work: (lab: Lab, host: SystemdHost) => Promise<void>) {
  return withLab(2, async (lab) => {
    await lab.startRegistry(config);
    addDefaultRoute(lab, 2);
    const host = await SystemdHost.boot(lab, 2);
    try {
      await work(lab, host);
    } finally {
      await host.close();
    }
  });
}

test(
  "systemd enables, starts, restarts, upgrades and stops the unit, and no packet is lost",
  { skip: whyNot ?? false },
  () => withSystemd(VXLAN, tryUnit),
);

test(
  "under systemd the unit may open its tunnel in user space",
  { skip: whyNot ?? false },
  () =>
    withSystemd({ Network: "10.210.0.0/16" }, async (lab, host) => {
      const apiSocket = host.path("/run/selvage/api.sock");
      const status = await untilStatus(apiSocket, isReady, () => host.journal());
      assert.equal(status.backend!.tunnels[0]!.device, "selvage0");
      assertAllowed(host, status);
      await lab.attach(1);
      await attach(lab, 2, status);
      await lab.untilPing(1, 2);
      lab.assertPings([2, 1]);
    }),
);
