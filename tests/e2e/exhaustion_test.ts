/**
 * Strangers with thousands of connections, against a daemon that may have 2,048 files open:
 *
 *     attacker 198.18.0.2 --- switch --- 198.18.0.1 [ host 1: registry, API with TLS ]
 *     host 3   198.18.0.3 ------'
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { spawnInNetns } from "../../src/demo/child.ts";
import type { SelfCommand } from "../../src/demo/host.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const FILE_COUNT_MAX = 2_048;
const FLOOD = resolve("tests/e2e/connection_flood_child.ts");
const API_PORT = 8285;
/** What the daemon may take more of memory than before. */
const GROWTH_MAX_BYTES = 100 * 1024 * 1024;

/** A daemon with few descriptors. */
const CONFINED: SelfCommand = {
  command: "sh",
  args: ["-c", `ulimit -n ${FILE_COUNT_MAX}; exec "$0" "$@"`, EXECUTABLE.command],
};

/** Floods a port of host 1 from host 2's network; resolves once it is flooded. */
async function flood(lab: Lab, port: number, count: number, mode: string): Promise<ChildProcess> {
  const target = String(lab.network(1).outerAddress);
  const script = `ulimit -n $(ulimit -H -n); exec "$0" "$@"`;
  const args = ["-c", script, process.execPath, "run", "-A", "--no-check", FLOOD];
  const child = spawnInNetns(
    lab.network(2).host,
    "sh",
    [...args, target, String(port), String(count), mode],
    ["ignore", "pipe", "inherit"],
  );
  await Promise.race([
    once(child.stdout!, "data"),
    once(child, "exit").then(() => assert.fail("the flood ended")),
  ]);
  return child;
}

/** Asks the API of host 1 with a token, from host 3's network. */
function askApi(lab: Lab, token: string): string {
  const url = `https://${lab.network(1).outerAddress}:${API_PORT}/v1/status`;
  const code = `const r = await fetch(${JSON.stringify(url)}, {
    headers: { authorization: "Bearer ${token}" }, signal: AbortSignal.timeout(20_000),
    tls: { rejectUnauthorized: false } }); console.log(r.status, (await r.json()).phase);`;
  const { stdout, stderr } = lab.exec(
    lab.network(3).host,
    "node_modules/@oven/bun-linux-x64/bin/bun",
    "-e",
    code,
  );
  return stdout.trim() || stderr;
}

const residentBytes = (pid: number) =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024;

/** Of the daemon under flood: its own socket, a token holder, the descriptors, the memory. */
function assertServes(lab: Lab, token: string, before_bytes: number): void {
  const { pid } = lab.host(1);
  const status = lab.run(1, ["status", "--json"]);
  assert.equal(status.status, 0, status.stderr);
  assert.equal(JSON.parse(status.stdout).phase, "ready");
  assert.equal(askApi(lab, token), "200 ready");
  const fileCount = readdirSync(`/proc/${pid}/fd`).length;
  assert.ok(fileCount < FILE_COUNT_MAX - 128, `${fileCount} descriptors are open`);
  const grown_bytes = residentBytes(pid) - before_bytes;
  assert.ok(grown_bytes < GROWTH_MAX_BYTES, `grown by ${grown_bytes} bytes`);
}

test("thousands of connections of strangers keep nobody out who has a token or the socket", () =>
  withLab(3, async (lab) => {
    const flag = `--api-listen=${lab.network(1).outerAddress}:${API_PORT}`;
    await lab.startRegistry(undefined, [flag], CONFINED);
    const joinFile = await lab.joinFile();
    const token = lab.run(1, ["token", "create", "--scope", "api"]).stdout.trim();
    assert.equal(askApi(lab, token), "200 ready");
    const before_bytes = residentBytes(lab.host(1).pid);
    const floods: ChildProcess[] = [];
    try {
      floods.push(await flood(lab, 8286, 3_000, "silent"));
      assertServes(lab, token, before_bytes);
      const pipeline = await flood(lab, 8286, 5, "pipeline");
      floods.push(pipeline);
      assertServes(lab, token, before_bytes);
      pipeline.kill("SIGKILL");
      floods.push(await flood(lab, API_PORT, 300, "tls"));
      floods.push(await flood(lab, API_PORT, 100, "error"));
      assertServes(lab, token, before_bytes);
      lab.launch(3, [`--join=@${joinFile}`]);
      await lab.ready(3);
      await lab.untilPeers(1, 1, 3);
      assertServes(lab, token, before_bytes);
      const { listeners } = await lab.until(1, "not counted", (status) => {
        return status.listeners.find(({ name }) => name === "api")!.unauthorizedCount > 0;
      });
      const [, api, registry] = listeners;
      assert.ok(registry!.connectionCount < 300, JSON.stringify(registry));
      assert.ok(registry!.shedCount > 100 && registry!.refusedCount > 100);
      assert.ok(api!.connectionCount <= 128, JSON.stringify(api));
      assert.match(
        lab.run(1, ["status"]).stdout,
        /Refused +api: \d+ requests? without a valid token/,
      );
      assert.match(lab.log(1), /WARNING api: refused requests .* from 198\.18\.0\.2/);
      // The host that joined keeps its watch: a lease that changes reaches it at once.
      const reserve = ["leases", "reserve", "10.210.9.0/24", "--public-ip", "198.18.0.9"];
      assert.equal(lab.run(1, reserve).status, 0);
      await lab.until(
        3,
        "no news",
        ({ peers }) => peers.some(({ key }) => key === "10.210.9.0-24"),
      );
    } finally {
      for (const child of floods) child.kill("SIGKILL");
    }
  }));
