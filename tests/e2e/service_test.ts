/** The daemon as a service: what it tells its manager, what it survives, what it does not obey. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { withNetns } from "../../ffi/netns.ts";
import { AF_UNIX, SOCK_DGRAM, sockaddrUn } from "../../ffi/socket_address.ts";
import type { Status } from "../../src/agent/status.ts";
import { spawnInNetns } from "../../src/demo/child.ts";
import { EXECUTABLE, holdTcpPort, type Lab, withLab } from "./lab.ts";

/** A service manager's notification socket. */
class NotifySocket {
  readonly #fd = check(libc.socket(AF_UNIX, SOCK_DGRAM, 0), "open a unix socket");

  constructor(readonly path: string) {
    const name = sockaddrUn(path);
    check(libc.bind(this.#fd, name, name.length), `bind ${path}`);
  }

  /** The next message; fails if none is there by now. */
  receive(): string {
    const buffer = new Uint8Array(512);
    const MSG_DONTWAIT = 0x40;
    const size = check(libc.recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT), "receive");
    return new TextDecoder().decode(buffer.subarray(0, size));
  }

  close(): void {
    closeFd(this.#fd);
  }
}

test("systemd hears READY=1 when packets flow, and STOPPING=1 at the end", () =>
  withLab(1, async (lab) => {
    const socket = new NotifySocket(join(lab.directory, "notify"));
    lab.env["NOTIFY_SOCKET"] = socket.path;
    await lab.startRegistry();
    assert.match(socket.receive(), /^READY=1\nSTATUS=holding 10\.210\./);
    await lab.stop(1);
    assert.equal(socket.receive(), "STOPPING=1");
    socket.close();
  }));

test("systemd hears nothing while a route is in the way of the path", () =>
  withLab(1, async (lab) => {
    const socket = new NotifySocket(join(lab.directory, "notify"));
    lab.env["NOTIFY_SOCKET"] = socket.path;
    await lab.startRegistry(undefined, ["--release-on-exit"]);
    await lab.stop(1);
    for (const pattern of [/^READY=1/, /^STOPPING=1/]) assert.match(socket.receive(), pattern);
    const { host } = lab.network(1);
    const route = ["10.210.0.0/16", "via", "198.18.0.254"];
    assert.equal(lab.exec(host, "ip", "route", "add", ...route).status, 0);
    lab.launch(1, []);
    await lab.until(
      1,
      "does not wait",
      ({ waitingFor }) => waitingFor?.includes("no packets can be carried yet") === true,
    );
    assert.throws(() => socket.receive(), /EAGAIN/);
    assert.equal(lab.exec(host, "ip", "route", "delete", ...route).status, 0);
    await lab.ready(1);
    assert.match(socket.receive(), /^READY=1\nSTATUS=holding 10\.210\./);
    socket.close();
  }));

async function untilLogged(lab: Lab, text: string): Promise<void> {
  for (let i = 0; i < 100 && !lab.log(1).includes(text); i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.ok(lab.log(1).includes(text), lab.log(1));
}

test("subnet.env is as flannel writes it, and the API socket is its owner's alone", () =>
  withLab(1, async (lab) => {
    const status = await lab.startRegistry();
    const subnet = status.lease!.subnets[0]!;
    const directory = lab.hostDirectory(1);
    assert.equal(
      readFileSync(join(directory, "subnet.env"), "utf8"),
      `FLANNEL_NETWORK=10.210.0.0/16\nFLANNEL_SUBNET=${subnet.replace(".0/24", ".1/24")}\n` +
        "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n",
    );
    assert.equal(statSync(join(directory, "subnet.env")).mode & 0o777, 0o644);
    assert.equal(statSync(join(directory, "api.sock")).mode & 0o777, 0o600);
    for (const name of ["registry.db", "registry.key"]) {
      assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600, name);
    }
  }));

test("subnet.env is written again when it was deleted", () =>
  withLab(1, async (lab) => {
    await lab.startRegistry();
    const file = join(lab.hostDirectory(1), "subnet.env");
    const before = readFileSync(file, "utf8");
    rmSync(file);
    await untilLogged(lab, "subnet.env was deleted; it is written again");
    assert.equal(readFileSync(file, "utf8"), before);
  }));

test("the kernel has flannel's device, address and route, the route by our protocol number", () =>
  withLab(1, async (lab) => {
    const status = await lab.startRegistry();
    const address = status.lease!.subnets[0]!.replace("/24", "");
    const { host } = lab.network(1);
    const ip = (...args: string[]) => JSON.parse(lab.exec(host, "ip", "-j", ...args).stdout);
    const [link] = ip("addr", "show", "selvage0");
    assert.equal(link.mtu, 1472);
    assert.ok(link.flags.includes("UP"));
    const [inet] = link.addr_info.filter((one: { family: string }) => one.family === "inet");
    assert.equal(`${inet.local}/${inet.prefixlen}`, `${address}/32`);
    const routes = ip("route", "show", "10.210.0.0/16");
    assert.deepEqual([routes[0].dev, routes[0].protocol], ["selvage0", "83"]);
  }));

test("no network configuration yet: it waits, says so, and takes it up when it comes", () =>
  withLab(2, async (lab) => {
    const listen = `--registry-listen=${lab.network(1).outerAddress}:8286`;
    lab.launch(1, [listen]);
    const isWaiting = (status: Status) => status.phase === "waiting_for_config";
    const waiting = await lab.until(1, "not waiting", isWaiting);
    assert.match(waiting.waitingFor!, /no network configuration/);
    lab.launch(2, [`--join=@${await lab.joinFile()}`]);
    await lab.until(2, "not waiting", isWaiting);
    const ready = lab.run(2, ["status"]);
    assert.match(ready.stdout, /waiting for the network configuration/);
    await lab.stop(1);
    await lab.startRegistry();
    await lab.ready(2);
    await lab.untilPeers(1, 1, 2);
  }));

test("the registry cannot be reached at the start: it waits, and goes on when it can", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    const joinFile = await lab.joinFile();
    await lab.stop(1);
    lab.launch(2, [`--join=@${joinFile}`]);
    const waiting = await lab.until(
      2,
      "not waiting",
      (status) => status.phase === "waiting_for_store",
    );
    assert.match(waiting.waitingFor!, /cannot be reached/);
    assert.doesNotMatch(waiting.waitingFor!, /earlier run/, "this host had none");
    await lab.startRegistry();
    await lab.ready(2);
  }));

test("device down, address flushed, route deleted by a foreign hand: mended, and logged", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    const { host } = lab.network(1);
    lab.exec(host, "ip", "address", "flush", "dev", "selvage0");
    lab.exec(host, "ip", "link", "set", "selvage0", "down");
    // Nothing tells the test when; the ping that comes through does.
    await lab.untilPing(1, 2);
    lab.assertPings([1, 2]);
    // It is told when all is mended, which may be after the packet came through.
    await untilLogged(lab, "another program changed entries of ours");
  }));

test("a joined host logs the registry's loss and its return", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    await lab.startJoined(2);
    await lab.kill(1);
    await lab.until(2, "store not lost", (status) => status.store?.connected === false);
    assert.match(lab.log(2), /WARNING store: registry lost: .*198\.18\.0\.1:8286/);
    await lab.startRegistry();
    await lab.until(2, "store not back", (status) => status.store?.connected === true);
    assert.match(lab.log(2), /store: connected to the registry[\s\S]*store: connected/);
  }));

test("the TUN deleted by a foreign hand: made anew, and traffic goes on", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    lab.exec(lab.network(1).host, "ip", "link", "delete", "selvage0");
    await lab.until(
      1,
      "not started anew",
      ({ dataPlane }) =>
        dataPlane!.restartCount === 1 && dataPlane!.running && dataPlane!.peerCount === 1,
    );
    lab.assertPings([1, 2], [2, 1]);
  }));

test("an idle node sleeps: no loop of it spins", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    /** Processor time so far, in ticks of 10 ms. */
    const ticks = () => {
      const stat = readFileSync(`/proc/${lab.host(2).pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(fields[11]) + Number(fields[12]);
    };
    const before = ticks();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    // The runtime tidies up after the start; one thread that spins would take 200.
    assert.ok(ticks() - before <= 20, `${ticks() - before} ticks in 2 s`);
  }));

test("no debugger, whatever the environment says", () =>
  withLab(1, async (lab) => {
    lab.env["BUN_INSPECT"] = "ws://127.0.0.1:6499/x";
    await lab.startRegistry();
    const { stdout } = lab.exec(lab.network(1).host, "ss", "-Hltn");
    assert.match(stdout, /127\.0\.0\.1:8285/);
    assert.doesNotMatch(stdout, /6499/);
  }));

describe("what the environment and the working directory cannot do", () => {
  /** Runs `selvage version` with these variables, in a directory full of traps. */
  function runVersion(env: Record<string, string>): string {
    const directory = mkdtempSync(join(tmpdir(), "selvage-trap-"));
    try {
      writeFileSync(join(directory, "trap.js"), 'console.log("TRAPPED");');
      writeFileSync(join(directory, "bunfig.toml"), 'preload = ["./trap.js"]\n');
      writeFileSync(join(directory, ".env"), "SELVAGE_API_SOCKET=/trapped\n");
      writeFileSync(join(directory, "package.json"), '{"scripts":{"version":"echo TRAPPED"}}');
      const result = spawnSync(EXECUTABLE.command, ["version"], {
        cwd: directory,
        encoding: "utf8",
        env: { ...process.env, ...env },
        timeout: 20_000,
      });
      assert.equal(result.status, 0, result.stderr);
      return result.stdout + result.stderr;
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  const TRAPS: Record<string, string>[] = [
    {},
    { BUN_BE_BUN: "1" },
    { BUN_OPTIONS: "--preload=./trap.js" },
    { BUN_INSPECT: "1", BUN_INSPECT_PRELOAD: "./trap.js" },
    { NODE_OPTIONS: "--require ./trap.js" },
  ];
  for (const env of TRAPS) {
    test(`make it run anything else: ${JSON.stringify(env)}`, () => {
      assert.match(runVersion(env), /^selvage \d+\.\d+\.\d+\n$/);
    });
  }

  test("change where the command line looks for its daemon, by a .env file", () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-trap-"));
    try {
      writeFileSync(join(directory, ".env"), "SELVAGE_API_SOCKET=/trapped\n");
      const options = { cwd: directory, encoding: "utf8", timeout: 20_000 } as const;
      const { stderr } = spawnSync(EXECUTABLE.command, ["status"], options);
      assert.match(stderr, /no socket at \/run\/selvage\/api\.sock/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

test("whoever holds the ports of the API and of the probes does not stop the daemon", () =>
  withLab(1, async (lab) => {
    const { host } = lab.network(1);
    // With mode 0600 the Unix socket is root's alone; these ports are anybody's.
    const fds = withNetns(host, () => [8285, 8300].map(holdTcpPort));
    try {
      const status = await lab.startRegistry(undefined, ["--healthz-port=8300"]);
      assert.ok(status.ready, "packets flow all the same");
      const holder = `in use by \\S+ \\(process ${process.pid}, user 0\\)`;
      assert.match(status.problems[0]!, new RegExp(`^API address 127.0.0.1:8285 is ${holder}`));
      assert.match(status.problems[1]!, new RegExp(`^health address 0.0.0.0:8300 is ${holder}`));
      assert.equal(status.problems.length, 2);
      assert.match(lab.log(1), /WARNING api: API address 127\.0\.0\.1:8285 is in use by /);
      assert.deepEqual(status.listeners.map(({ name }) => name), ["socket", "registry"]);
    } finally {
      fds.forEach(closeFd);
    }
    const mended = await lab.until(1, "still in use", ({ problems }) => problems.length === 0);
    const names = mended.listeners.map(({ name }) => name);
    assert.deepEqual(names, ["socket", "api", "health", "registry"]);
    const answer = lab.exec(
      host,
      "bash",
      "-c",
      "exec 3<>/dev/tcp/127.0.0.1/8300 && " +
        "printf 'GET /readyz HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3 && head -1 <&3",
    );
    assert.match(answer.stdout, /^HTTP\/1\.[01] 200/);
  }));

test("a daemon whose parent is killed ends, when it was asked to", () =>
  withLab(1, async (lab) => {
    const { host } = lab.network(1);
    const flags = `--iface=eth0 --state-dir=${lab.hostDirectory(1)} ` +
      `--subnet-file=${lab.directory}/s.env --api-socket=${lab.directory}/api.sock`;
    const script = `SELVAGE_END_WITH_PARENT=$$ ${EXECUTABLE.command} run ${flags} & ` +
      `echo $!; wait`;
    const shell = spawnInNetns(host, "sh", ["-c", script], ["ignore", "pipe", "ignore"]);
    const pid = await new Promise<number>((resolve) =>
      shell.stdout!.once("data", (text) => resolve(Number(String(text))))
    );
    const state = () => {
      try {
        return readFileSync(`/proc/${pid}/status`, "utf8");
      } catch {
        return null;
      }
    };
    // The daemon has asked the kernel by the time it has its socket.
    const isUp = () => statSync(`${lab.directory}/api.sock`, { throwIfNoEntry: false });
    for (let i = 0; i < 1000 && !isUp(); i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    shell.kill("SIGKILL");
    for (let i = 0; i < 500 && state() !== null; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(state(), null);
  }));
