/**
 * Sets up what the tests need, builds, and runs all of them: every test under Deno, and those of
 * `ffi/` and of the etcd client under Bun as well. Ends with a line `N passed, N failed`.
 *
 *     deno run -A tests/run.ts [FILE...]
 */
import { spawn, spawnSync } from "node:child_process";
import { preparePackages } from "./packages.ts";

const BUN = "node_modules/@oven/bun-linux-x64/bin/bun";
/** Most of the end-to-end tests wait for something, so more run at once than there are cores. */
const TEST_FILES_AT_ONCE = 4;
/**
 * Tests that hold limits of time, as "within 2 s on each of 64 nodes": after all others, and one
 * file at a time, so that what they measure is Selvage and not the rest of the tests.
 */
const TIMED_FILES = [
  "tests/e2e/etcd_chaos_test.ts",
  "tests/e2e/etcd_cut_test.ts",
  "tests/etcd/client/failover_test.ts",
  "tests/etcd/cluster_chaos_test.ts",
  "tests/etcd/real_etcd_test.ts",
];
/** Bun's own is 5 s. */
const BUN_TEST_TIMEOUT_MS = 60_000;

interface Outcome {
  passed: number;
  failed: number;
}

/** What a developer's shell may have set, and what would change what the tests see. */
const FOREIGN_VARIABLE = /^(((https?|all|no)_proxy)|(SELVAGE|FLANNELD|ETCD|ETCDCTL)_.*)$/i;

/** What tests themselves are told by. */
const OWN_VARIABLES = ["SELVAGE_FIGURES", "ETCD_CHAOS_SEED"];

/** The environment of the tests: this one's, without what they must not depend on. */
function testEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) =>
    !FOREIGN_VARIABLE.test(name) || OWN_VARIABLES.includes(name)
  );
  return {
    ...Object.fromEntries(kept),
    NO_COLOR: "1",
    DENO_JOBS: String(TEST_FILES_AT_ONCE),
  };
}

/** Runs a command and shows its output as it comes; returns all of it, with the exit status. */
function show(command: string, args: string[]): Promise<{ text: string; status: number }> {
  const env = testEnvironment();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (part: string) => {
      text += part;
      process.stdout.write(part);
    });
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ text, status: status ?? 1 }));
  });
}

/** Counts by the runner's own closing line; what ran nothing, or died, counts as one failure. */
async function count(command: string, args: string[], lines: RegExp[]): Promise<Outcome> {
  const { text, status } = await show(command, args);
  const [passed, failed] = lines.map((line) => {
    const matches = [...text.matchAll(new RegExp(line, "gm"))];
    return Number(matches.at(-1)?.[1] ?? 0);
  }) as [number, number];
  const isSilentFailure = failed === 0 && (status !== 0 || passed === 0);
  return { passed, failed: isSilentFailure ? 1 : failed };
}

function underDeno(...args: string[]): Promise<Outcome> {
  const lines = [/^(?:ok|FAILED) \| (\d+) passed/, /^(?:ok|FAILED) \| .*?(\d+) failed/];
  return count(process.execPath, ["test", "-A", "--no-check", ...args], lines);
}

function underBun(...directories: string[]): Promise<Outcome> {
  const args = ["test", "--timeout", String(BUN_TEST_TIMEOUT_MS), ...directories];
  return count(BUN, args, [/^\s*(\d+) pass$/, /^\s*(\d+) fail$/]);
}

/** Ends with the closing line that every run has. */
function giveUp(why: string): never {
  console.log(`${why}\n0 passed, 1 failed`);
  process.exit(1);
}

if (!preparePackages()) giveUp("The tests need programs that are not there.");
const build = spawnSync(process.execPath, ["run", "-A", "compile.ts"], { stdio: "inherit" });
if (build.status !== 0) giveUp("The build failed.");

const files = process.argv.slice(2);
const start_ms = performance.now();
const outcomes: Outcome[] = [];
if (files.length > 0) {
  outcomes.push(await underDeno("--parallel", ...files));
} else {
  outcomes.push(await underDeno("--parallel", `--ignore=${TIMED_FILES}`, "tests/"));
  outcomes.push(await underDeno(...TIMED_FILES));
  outcomes.push(await underBun("tests/ffi/", "tests/etcd/client/"));
}
const sum = (name: keyof Outcome) => outcomes.reduce((total, outcome) => total + outcome[name], 0);
const failed = sum("failed");
console.log(`\nIt took ${((performance.now() - start_ms) / 1000).toFixed(0)} s.`);
console.log(`${sum("passed")} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
