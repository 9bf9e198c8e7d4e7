/**
 * What becomes of a registry whose disk fills up, and whose state directory is deleted, moved away,
 * hidden or made read-only while it runs. One lab and one daemon for all of it: everything heals
 * without a restart, but for the last kill, which shows what is on the disk.
 *
 *     <lab>/disk          a tmpfs of 8 MiB
 *     <lab>/disk/state    the state directory of host 1
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Lab, withLab } from "./lab.ts";

function sh(text: string): void {
  const { status, stderr } = spawnSync("sh", ["-ec", text], { encoding: "utf8" });
  assert.equal(status, 0, `${text}: ${stderr}`);
}

/** Waits until host 1 is not ready and says so; what it says is returned. */
async function untilBroken(lab: Lab, pattern: RegExp): Promise<string> {
  const { problems } = await lab.until(1, `no problem like ${pattern}`, (status) => {
    return !status.ready && status.problems.some((problem) => pattern.test(problem));
  });
  return problems.find((problem) => pattern.test(problem))!;
}

function untilWell(lab: Lab) {
  return lab.until(1, "still broken", ({ ready, problems }) => ready && problems.length === 0);
}

/** Hosts draw their subnets from above those that the test reserves. */
const CONFIG = { Network: "10.210.0.0/16", SubnetMin: "10.210.200.0" };

let reservedCount = 0;

/** Reserves one more subnet on host 1. */
function reserve(lab: Lab) {
  const number = ++reservedCount + 100;
  const address = `--public-ip=192.0.2.${number}`;
  return { number, ...lab.run(1, ["leases", "reserve", `10.210.${number}.0/24`, address]) };
}

function assertRefused(lab: Lab, pattern: RegExp): void {
  for (const refused of [reserve(lab), lab.run(1, ["token", "create"])]) {
    assert.equal(refused.status, 1, refused.stdout);
    assert.match(refused.stderr, pattern);
  }
}

function assertWorks(lab: Lab): number {
  const { number, status, stderr } = reserve(lab);
  assert.equal(status, 0, stderr);
  assert.equal(lab.run(1, ["token", "create"]).status, 0);
  return number;
}

async function fillUp(lab: Lab, disk: string): Promise<void> {
  const filler = join(disk, "filler");
  spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=4k"]);
  // Nobody has tried to change anything yet.
  await untilBroken(lab, /registry\.db: .*disk is full\. Free some space/);
  assertRefused(lab, /disk is full/);
  lab.launch(2, [`--join=@${await lab.joinFile()}`]);
  await lab.until(2, "not refused", ({ waitingFor }) => /disk is full/.test(waitingFor ?? ""));
  rmSync(filler);
  await lab.ready(2);
  await untilWell(lab);
  assertWorks(lab);
  const told = lab.log(1).split("\n").filter((line) => /registry\.db: .*disk is full/.test(line));
  assert.equal(told.filter((line) => !line.includes("no longer:")).length, 1, told.join("\n"));
  assert.equal(told.length, 2, told.join("\n"));
}

async function replaceDirectory(lab: Lab, state: string): Promise<void> {
  renameSync(state, `${state}.old`);
  writeFileSync(state, "");
  await untilBroken(lab, /registry\.db/);
  assertRefused(lab, /registry\.db|tokens\.db/);
  rmSync(state);
  await untilWell(lab);
  assertWorks(lab);
}

async function hideDirectory(lab: Lab, state: string): Promise<void> {
  sh(`mount -t tmpfs none ${state}`);
  try {
    const problem = await untilBroken(lab, /registry\.db: its directory is on another file system/);
    assert.match(problem, /Mount the right file system/);
    assertRefused(lab, /another file system/);
  } finally {
    sh(`umount ${state}`);
  }
  await untilWell(lab);
  assertWorks(lab);
}

async function makeReadOnly(lab: Lab, state: string): Promise<void> {
  sh(`mount --bind ${state} ${state}; mount -o remount,bind,ro ${state}`);
  try {
    await untilBroken(lab, /registry\.db: .*EROFS.*Look whether its file system has become/);
    assertRefused(lab, /EROFS|[Rr]ead-only/);
  } finally {
    sh(`umount ${state}`);
  }
  await untilWell(lab);
  assertWorks(lab);
}

async function replaceDatabase(lab: Lab, state: string): Promise<void> {
  const path = join(state, "registry.db");
  copyFileSync(path, `${path}.other`);
  renameSync(`${path}.other`, path);
  const problem = await untilBroken(lab, /another file was put in its place/);
  assert.match(problem, /Restart selvage to use the new file, or move it away/);
  assert.match(reserve(lab).stderr, /another file was put in its place/);
  rmSync(path);
  await untilWell(lab);
  assertWorks(lab);
}

test("a registry's disk is full, its directory deleted, moved, hidden, read-only: it says so", () =>
  withLab(2, async (lab) => {
    const disk = join(lab.directory, "disk");
    mkdirSync(disk);
    sh(`mount -t tmpfs -o size=8m,mode=700 none ${disk}`);
    try {
      const state = join(disk, "state");
      await lab.startRegistry(CONFIG, [`--state-dir=${state}`]);
      const { pid } = lab.host(1);
      await lab.joinFile();
      await fillUp(lab, disk);
      await replaceDirectory(lab, state);
      await hideDirectory(lab, state);
      await makeReadOnly(lab, state);
      await replaceDatabase(lab, state);
      const before = lab.run(1, ["token", "list", "--json"]).stdout;

      // Deleted, and not one acknowledged change is lost.
      const keptNames = readdirSync(state).filter((name) =>
        /^[^.].*\.(json|db|key|crt)$/.test(name)
      );
      assert.ok(keptNames.includes("outer_link.json"), keptNames.join(" "));
      rmSync(state, { recursive: true });
      const last = assertWorks(lab);
      await lab.until(
        1,
        "its files are not back",
        () => keptNames.every((name) => existsSync(join(state, name))),
      );
      await untilWell(lab);
      assert.equal(lab.host(1).pid, pid);
      const leases = lab.run(1, ["leases", "--json"]).stdout;
      assert.match(leases, new RegExp(`10\\.210\\.${last}\\.0`));

      await lab.kill(1);
      await lab.startRegistry(CONFIG, [`--state-dir=${state}`]);
      await lab.until(2, "registry not found again", ({ store }) => store?.connected === true);
      const keys = (text: string) => (JSON.parse(text) as { key: string }[]).map(({ key }) => key);
      assert.deepEqual(keys(lab.run(1, ["leases", "--json"]).stdout), keys(leases));
      const tokens = JSON.parse(lab.run(1, ["token", "list", "--json"]).stdout) as unknown[];
      assert.equal(tokens.length, (JSON.parse(before) as unknown[]).length + 1);
    } finally {
      await Promise.all(lab.hosts.map((host) => host?.stop()));
      sh(`umount ${disk}`);
    }
  }));
