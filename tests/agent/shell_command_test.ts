import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { runShellCommand, type ShellCommand } from "../../src/agent/shell_command.ts";

const { signal: NEVER } = new AbortController();

function run(text: string, more: Partial<ShellCommand> = {}, signal = NEVER): Promise<string> {
  return runShellCommand(
    { name: "TestCommand", text, environment: {}, input: "", ...more },
    signal,
  );
}

/** Whether a process is there, and no zombie. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function untilGone(pid: number): Promise<void> {
  for (let i = 0; i < 500 && isRunning(pid); i++) await new Promise((r) => setTimeout(r, 10));
  assert.equal(isRunning(pid), false);
}

describe("a command", () => {
  test("is run by sh, and what it prints to stdout comes back trimmed", async () => {
    assert.equal(await run("echo ' one'; echo two; echo three >&2"), "one\ntwo");
  });

  test("reads its input and its variables", async () => {
    const text = 'read line; echo "$line $SUBNET ${PATH:+path}"';
    const more = { environment: { SUBNET: "10.5.0.0/24" }, input: "02:aa" };
    assert.equal(await run(text, more), "02:aa 10.5.0.0/24 path");
  });

  test("sees nothing of the daemon's environment that may be a secret", async () => {
    const secrets = ["SELVAGE_JOIN", "FLANNELD_ETCD_PASSWORD", "ETCD_PASSWORD", "MY_TOKEN"];
    for (const name of secrets) process.env[name] = "secret";
    try {
      const names = (await run("env")).split("\n").map((line) => line.split("=")[0]!);
      const allowed = ["HOME", "LANG", "LC_ALL", "PATH", "PWD", "SHLVL", "TZ", "_", "OLDPWD"];
      assert.deepEqual(names.filter((name) => !allowed.includes(name)), []);
      assert.ok(names.includes("PATH"));
    } finally {
      for (const name of secrets) delete process.env[name];
    }
  });

  test("may leave something running, which then is its own", async () => {
    // It ends in time, and its output is still waited for when the time is over.
    const pid = Number(await run("sleep 10 & echo $!", { timeout_ms: 150 }));
    try {
      assert.equal(isRunning(pid), true);
    } finally {
      process.kill(pid);
    }
  });

  test("need not read its input, however long it is", async () => {
    assert.equal(await run("echo done", { input: "x".repeat(1_000_000) }), "done");
  });

  test("that fails is named, with its status and the last that it said", async () => {
    await assert.rejects(run("echo first >&2; echo why >&2; exit 3"), {
      code: "unavailable",
      message: "TestCommand ended with status 3: why",
    });
    await assert.rejects(run("exit 1"), { message: "TestCommand ended with status 1" });
    await assert.rejects(run("kill -TERM $$"), { message: "TestCommand was ended by SIGTERM" });
    await assert.rejects(run("no-such-program"), /status 127: .*not found/);
  });

  test("that prints without end is not kept in memory", async () => {
    const output = await run("head -c 500000 /dev/zero | tr '\\0' x");
    assert.equal(output.length, 64 * 1024);
  });

  for (const stream of ["stdout", "stderr"]) {
    test(`that floods ${stream} is ended with all that it started`, async () => {
      const directory = mkdtempSync(join(tmpdir(), "selvage-command-"));
      try {
        const file = join(directory, "pid");
        const text = `yes > /dev/${stream} & echo $! > "${file}"; sleep 1000`;
        await assert.rejects(run(text), /^SelvageError: TestCommand printed more than 1 MiB/);
        await untilGone(Number(readFileSync(file, "utf8")));
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  }

  test("that takes too long is ended with all that it started", async () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-command-"));
    try {
      const file = join(directory, "pid");
      const text = `sleep 1000 & echo $! > "${file}"; wait`;
      await assert.rejects(run(text, { timeout_ms: 300 }), {
        message: "TestCommand did not end within 0.3 s",
      });
      await untilGone(Number(readFileSync(file, "utf8")));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("is ended with the daemon, and not begun after its end", async () => {
    const ending = new AbortController();
    const running = run("sleep 1000", {}, ending.signal);
    ending.abort();
    await assert.rejects(running, /was ended, as this daemon ends/);
    await assert.rejects(run("echo", {}, ending.signal), /was not run/);
  });

  test("may leave something in the background that holds its output", async () => {
    const pid = Number(await run("sleep 1000 & echo $!"));
    assert.equal(isRunning(pid), true);
    process.kill(pid, "SIGKILL");
    await untilGone(pid);
  });
});
