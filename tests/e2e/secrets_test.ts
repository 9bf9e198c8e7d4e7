/** Secrets that a host is given, and who else on it can see them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { spawnInNetns } from "../../src/demo/child.ts";
import { EXECUTABLE, type Lab, UNDER_DENO, withLab } from "./lab.ts";

/** What every user of the host sees of a process. */
function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
}

describe("--join STRING", () => {
  for (const self of [EXECUTABLE, UNDER_DENO]) {
    const runtime = self === EXECUTABLE ? "the executable" : "under Deno";
    test(`is in no list of processes and in no crash report (${runtime})`, () =>
      withLab(2, async (lab) => {
        await lab.startRegistry();
        const secret = readFileSync(await lab.joinFile(), "utf8").trim();
        lab.launch(2, [`--join=${secret}`]);
        await lab.ready(2);
        const { pid } = lab.host(2);
        const shown = commandLine(pid);
        assert.match(shown, / run .* --join=\*\*\* $/);
        assert.ok(!shown.includes(secret));
        assert.match(lab.log(2), /--join: users of this host could see .* --join @FILE/);
        assert.ok(!lab.log(2).includes(secret.slice(0, 20)));
      }, self));
  }

  test("is in no crash report of the runtime", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry();
      const secret = readFileSync(await lab.joinFile(), "utf8").trim();
      // Few arguments, because the report shows only so much of them.
      const command = ["run", "--join", secret];
      const directory = lab.hostDirectory(2);
      const env = {
        SELVAGE_STATE_DIR: join(directory, "state"),
        SELVAGE_API_SOCKET: join(directory, "api.sock"),
        SELVAGE_SUBNET_FILE: join(directory, "subnet.env"),
      };
      const stdio = ["ignore", "ignore", "pipe"] as const;
      const { host } = lab.network(2);
      const child = spawnInNetns(host, EXECUTABLE.command, command, [...stdio], env);
      let text = "";
      child.stderr!.setEncoding("utf8").on("data", (part: string) => {
        text += part;
        // The log's first line comes after the program has started itself anew.
        if (part.includes("--join: users of this host")) process.kill(child.pid!, "SIGSEGV");
      });
      await once(child, "close");
      assert.match(text, /Args: .*"run" "--join" "\*\*\*"/, text);
      assert.ok(!text.includes(secret.slice(0, 20)));
    }));

  test("in a file that others can read is warned about, and works", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry();
      const file = await lab.joinFile();
      chmodSync(file, 0o644);
      await lab.startJoined(2);
      assert.match(lab.log(2), /join holds a secret, and its mode 0644 .*: chmod 600 .*join/);
      await lab.stop(2);
      const before = lab.log(2).length;
      chmodSync(file, 0o600);
      await lab.startJoined(2);
      assert.doesNotMatch(lab.log(2).slice(before), /holds a secret/);
    }));
});

/** Runs a command of selvage on host 1 by way of `sh`, to its end. */
function runInShell(lab: Lab, before: string, ...words: string[]) {
  const script = `${before}exec "$@"`;
  const { host } = lab.network(1);
  return lab.exec(host, "unshare", "--mount", "sh", "-c", script, "sh", ...words);
}

function placeFlags(directory: string, stateDir: string): string[] {
  return [
    "--iface=eth0",
    `--state-dir=${stateDir}`,
    `--subnet-file=${join(directory, "subnet.env")}`,
    `--api-socket=${join(directory, "api.sock")}`,
  ];
}

describe("a state directory", () => {
  test("that other users can read, or that is another user's, is refused with what to do", () =>
    withLab(1, (lab) => {
      const state = join(lab.directory, "state");
      mkdirSync(state);
      const flags = placeFlags(lab.directory, state);
      const refusal = () => {
        const run = runInShell(lab, "", EXECUTABLE.command, "run", ...flags);
        assert.equal(run.status, 1, run.stderr);
        const check = runInShell(lab, "", EXECUTABLE.command, "check", ...flags);
        assert.equal(check.status, 1);
        return [run.stderr, check.stdout] as const;
      };
      for (const mode of [0o755, 0o740, 0o702]) {
        chmodSync(state, mode);
        for (const text of refusal()) {
          assert.match(text, new RegExp(`its mode 0${mode.toString(8)} lets other users`));
          assert.match(text, /chmod 700 .*state/);
        }
      }
      chmodSync(state, 0o700);
      chownSync(state, 65534, 65534);
      for (const text of refusal()) {
        assert.match(text, /it belongs to user 65534, not to 0/);
        assert.match(text, /chown -R 0 .*state/);
      }
      chownSync(state, 0, 0);
      const good = runInShell(lab, "", EXECUTABLE.command, "check", ...flags);
      assert.match(good.stdout, /state directory +ok/);
      return Promise.resolve();
    }));
});

describe("what root is advised", () => {
  test("on a read-only file system", () =>
    withLab(1, (lab) => {
      const place = join(lab.directory, "place");
      mkdirSync(place);
      const config = join(lab.directory, "net-conf.json");
      writeFileSync(config, JSON.stringify({ Network: "10.210.0.0/16" }));
      const flags = placeFlags(place, join(lab.directory, "state"));
      const before = `mount -t tmpfs -o ro tmpfs '${place}' && `;
      const words = ["run", `--net-config=${config}`, ...flags];
      const run = runInShell(lab, before, EXECUTABLE.command, ...words);
      assert.equal(run.status, 1);
      assert.match(run.stderr, /EROFS/);
      assert.match(run.stderr, /read-only/);
      assert.doesNotMatch(run.stderr, /as root/i);
      const check = runInShell(lab, before, EXECUTABLE.command, "check", ...flags);
      const row = /^subnet file .*$/m.exec(check.stdout)?.[0] ?? check.stdout;
      assert.match(row, /missing.*EROFS.*read-only: mount it writable/);
      assert.doesNotMatch(check.stdout, /as root/i);
      // The same for the state directory: the advice names a directory, and what to do.
      const onPlace = [...flags, `--state-dir=${place}`];
      const first = runInShell(
        lab,
        `mount -t tmpfs -o ro,mode=700 tmpfs '${place}' && `,
        EXECUTABLE.command,
        "run",
        `--net-config=${config}`,
        ...onPlace,
      );
      assert.equal(first.status, 1);
      const [reason, hint] = first.stderr.split("\n").slice(-3);
      assert.match(`${reason}`, /cannot open the registry .*registry\.db: read-only .*EROFS/);
      const advice = `The file system of ${place} is read-only: mount it writable.`;
      assert.equal(hint, advice);
      const seen = runInShell(lab, before, EXECUTABLE.command, "check", ...onPlace).stdout;
      assert.match(seen, /^state directory +missing +cannot write into .*EROFS/m);
      assert.doesNotMatch(seen, /selvage-check/);
      return Promise.resolve();
    }));

  test("on a full file system", () =>
    withLab(1, (lab) => {
      const place = join(lab.directory, "place");
      mkdirSync(place);
      const flags = placeFlags(place, place);
      const full = `mount -t tmpfs -o size=64k,mode=700 tmpfs '${place}' && ` +
        `{ head -c 1000000 /dev/zero > '${place}/all' 2>/dev/null; :; } ; `;
      const { stdout } = runInShell(lab, full, EXECUTABLE.command, "check", ...flags);
      for (const name of ["state directory", "subnet file", "API socket"]) {
        const row = new RegExp(`^${name} +missing +.*ENOSPC.* is full.*make room there`, "m");
        assert.match(stdout, row);
      }
      return Promise.resolve();
    }));

  test("without /proc/self/status", () =>
    withLab(1, (lab) => {
      const before = "mount --bind /dev/null /proc/$$/status && ";
      const flags = placeFlags(lab.directory, join(lab.directory, "state"));
      for (const command of ["run", "check"]) {
        const { status, stderr } = runInShell(lab, before, EXECUTABLE.command, command, ...flags);
        assert.equal(status, 1);
        assert.match(stderr, /^selvage: \/proc\/self\/status cannot be read.*\nMount .* \/proc/);
      }
      return Promise.resolve();
    }));
});
