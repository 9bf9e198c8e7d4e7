/** `selvage demo`, as a newcomer runs it, and what is left of it afterwards: nothing. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { DemoHost, SelfCommand } from "../../src/demo/host.ts";
import type { Status } from "../../src/agent/status.ts";
import type { DemoReport } from "../../src/demo/report.ts";
import { EXECUTABLE, UNDER_DENO, withLab } from "./lab.ts";

const TIMEOUT_MS = 60_000;
const ATTACHED = /containers attached/;

/** A temporary directory of the test's own, which the demo is told to use. */
function withDirectory(run: (directory: string) => void | Promise<void>) {
  return async () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-demo-test-"));
    try {
      await run(directory);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  };
}

/** Processes whose environment names the directory: the demo's own, and all that it started. */
function processesOf(directory: string): string[] {
  return readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`TMPDIR=${directory}`);
    } catch {
      return false;
    }
  });
}

async function assertNothingLeft(directory: string): Promise<void> {
  // A process ended by its parent's end needs a moment to be gone.
  for (let i = 0; i < 500 && processesOf(directory).length > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.deepEqual(processesOf(directory), []);
}

const environment = (directory: string) => ({ ...process.env, TMPDIR: directory });

function runDemo(self: SelfCommand, directory: string, ...args: string[]): DemoReport {
  const all = [...self.args, "demo", "--json", ...args];
  const options = { encoding: "utf8", env: environment(directory), timeout: TIMEOUT_MS } as const;
  const { status, stdout, stderr } = spawnSync(self.command, all, options);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as DemoReport;
}

function assertAllArrived(report: DemoReport, hostCount: number): void {
  assert.equal(report.ok, true);
  assert.equal(report.hosts.length, hostCount);
  assert.equal(new Set(report.hosts.map((host) => host.subnet)).size, hostCount);
  assert.equal(report.pings.length, hostCount * (hostCount - 1));
  for (const ping of report.pings) {
    assert.equal(ping.received, ping.sent - ping.lostByDesign);
  }
  assert.equal(report.transfers.length, hostCount === 2 ? 2 : 2 * hostCount);
  for (const transfer of report.transfers) {
    assert.match(transfer.sentSha256, /^[0-9a-f]{64}$/);
    assert.equal(transfer.receivedSha256, transfer.sentSha256);
  }
}

/** Starts a demo and waits until its output shows that it got so far. */
async function startDemo(directory: string, reached: RegExp, ...args: string[]) {
  const child = spawn(EXECUTABLE.command, ["demo", "--size=1", ...args], {
    env: environment(directory),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => text += part);
  const until = async (pattern: RegExp): Promise<string> => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    while (!pattern.test(text)) await once(child.stdout, "data", { signal });
    return text;
  };
  await until(reached);
  return { child, until };
}

describe("selvage demo", () => {
  for (const hostCount of [2, 4]) {
    test(
      `${hostCount} hosts: all pings and hashes good, nothing left`,
      withDirectory(async (directory) => {
        const args = [`--hosts=${hostCount}`, "--size=4"];
        assertAllArrived(runDemo(EXECUTABLE, directory, ...args), hostCount);
        await assertNothingLeft(directory);
        assert.deepEqual(readdirSync(directory), []);
      }),
    );
  }

  for (
    const flags of [
      ["--backend=vxlan", "--generation=1"],
      ["--backend=vxlan", "--generation=2"],
      ["--backend=vxlan", "--generation=3"],
      ["--backend=vxlan-userspace"],
      ["--backend=host-gw"],
    ]
  ) {
    test(
      `${flags.join(" ")}: all arrives, nothing left`,
      withDirectory(async (directory) => {
        const report = runDemo(EXECUTABLE, directory, ...flags, "--hosts=3", "--size=1");
        assertAllArrived(report, 3);
        // Generation 1 alone may lose a packet, and only the first of a pair.
        const lost = report.pings.reduce((sum, ping) => sum + ping.lostByDesign, 0);
        if (flags.at(-1) !== "--generation=1") assert.equal(lost, 0);
        await assertNothingLeft(directory);
        assert.deepEqual(readdirSync(directory), []);
      }),
    );
  }

  test(
    "the executable alone, copied into an empty directory",
    withDirectory(async (directory) => {
      const copy = join(directory, "selvage");
      copyFileSync(EXECUTABLE.command, copy);
      assertAllArrived(runDemo({ command: copy, args: [] }, directory, "--size=1"), 2);
      await assertNothingLeft(directory);
    }),
  );

  test(
    "the same sources under Deno",
    withDirectory(async (directory) => {
      assertAllArrived(runDemo(UNDER_DENO, directory, "--size=1"), 2);
      await assertNothingLeft(directory);
    }),
  );

  test(
    "--keep stays up until Ctrl-C, then tears everything down",
    withDirectory(async (directory) => {
      const { child, until } = await startDemo(directory, ATTACHED, "--keep");
      const text = await until(/Ctrl-C ends it/);
      const here = readlinkSync("/proc/self/ns/net");
      const pid = /\/proc\/(\d+)\/ns\/net/.exec(text)![1];
      assert.notEqual(readlinkSync(`/proc/${pid}/ns/net`), here);
      const gone = once(child, "exit");
      process.kill(child.pid!, "SIGINT");
      assert.deepEqual(await gone, [0, null]);
      await assertNothingLeft(directory);
      assert.deepEqual(readdirSync(directory), []);
    }),
  );

  for (const reached of [/a container on each/, /the registry/, /knows every other/, ATTACHED]) {
    test(
      `interrupted after "${reached.source}", it tears everything down`,
      withDirectory(async (directory) => {
        const { child } = await startDemo(directory, reached, "--hosts=4", "--size=2000");
        const gone = once(child, "exit", { signal: AbortSignal.timeout(TIMEOUT_MS) });
        process.kill(child.pid!, "SIGTERM");
        assert.deepEqual(await gone, [130, null]);
        await assertNothingLeft(directory);
        assert.deepEqual(readdirSync(directory), []);
      }),
    );
  }

  test(
    "killed, it leaves no process and so no namespace",
    withDirectory(async (directory) => {
      const { child } = await startDemo(directory, ATTACHED, "--hosts=3", "--size=2000");
      const gone = once(child, "exit");
      process.kill(child.pid!, "SIGKILL");
      await gone;
      await assertNothingLeft(directory);
    }),
  );

  for (const args of [["--hosts=1"], ["--hosts=17"], ["--hosts=two"], ["--hosts=2", "more"]]) {
    test(`${args.join(" ")} is refused, and nothing is made`, () => {
      const { status, stderr } = spawnSync(EXECUTABLE.command, ["demo", ...args], {
        encoding: "utf8",
        timeout: TIMEOUT_MS,
      });
      assert.equal(status, 2);
      assert.match(stderr, /^selvage: /);
    });
  }
});

/** A daemon that a shell script starts. */
const started = (script: string): SelfCommand => ({ command: "sh", args: ["-c", script, "sh"] });
const STUCK_MS = 2_000;
const isReady = (status: Status) => status.phase === "ready";

describe("a daemon that takes long to start", () => {
  const wait = (host: DemoHost, said: string[]) =>
    host.untilStuck("not ready", isReady, STUCK_MS, AbortSignal.timeout(TIMEOUT_MS), (text) => {
      said.push(text);
    });

  test("is waited for while it gets on", () =>
    withLab(1, async (lab) => {
      const network = join(lab.directory, "net-conf.json");
      writeFileSync(network, '{"Network":"10.210.0.0/16"}');
      // Three times as long as it may stand still, with work all the while.
      const busy = "end=$(($(date +%s) + 7)); while [ $(date +%s) -lt $end ]; do :; done";
      const script = `${busy}; exec ${EXECUTABLE.command} "$@"`;
      const host = lab.launch(1, [`--net-config=${network}`], started(script));
      const said: string[] = [];
      assert.equal((await wait(host, said)).phase, "ready");
      assert.match(said[0]!, /^host1 takes long: it is still starting$/);
    }));

  test("is given up when it stands still, or has ended", () =>
    withLab(1, async (lab) => {
      const stuck = lab.launch(1, [], started("exec sleep 60"));
      await assert.rejects(wait(stuck, []), /not ready: not within 2 s/);
      await stuck.stop();
      const ended = lab.launch(1, [], started("exit 3"));
      await assert.rejects(wait(ended, []), /selvage run ended/);
    }));
});
