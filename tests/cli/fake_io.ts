/** The outside of a command, in memory. */
import assert from "node:assert/strict";
import type { CliDeps, DemoOptions } from "../../src/cli/context.ts";
import type { CheckOptions } from "../../src/check/options.ts";
import type { CheckReport } from "../../src/check/report.ts";
import type { CliIo } from "../../src/cli/io.ts";
import type { CleanOptions, CleanReport } from "../../src/clean/report.ts";
import type { Etcd } from "../../src/etcd/client/kv.ts";
import type { EtcdOptions } from "../../src/etcd/options.ts";
import { runCli } from "../../src/cli/program.ts";
import type { RunOptions } from "../../src/agent/options.ts";
import { NOW_MS } from "../api/fake_control.ts";

export class FakeIo implements CliIo {
  stdout = "";
  stderr = "";
  isTerminal = false;
  readonly interrupt = new AbortController();
  /** Called with all of stdout after each write. */
  onOut: (stdout: string) => void = () => {};

  constructor(readonly env: Record<string, string> = {}) {}
  out(text: string): void {
    this.stdout += text;
    this.onOut(this.stdout);
  }
  /** What became of it. */
  written: () => Promise<void> = () => Promise.resolve();
  err(text: string): void {
    this.stderr += text;
  }
  /** What is piped in. */
  input = "";
  readInput(): Promise<string> {
    return Promise.resolve(this.input);
  }
  now_ms(): number {
    return NOW_MS;
  }
  interrupted(): AbortSignal {
    return this.interrupt.signal;
  }
}

/** What the check of a command line in a test finds. */
const REPORT: CheckReport = {
  ready: false,
  checks: [{ name: "kernel", result: "missing", seen: "Linux 2.6\u001b", advice: "Use another." }],
  backends: [
    { name: "udp", works: true, reason: "" },
    { name: "ipip", works: false, reason: "why" },
    { name: "vxlan (kernel)", works: null, reason: "why" },
  ],
  next: "Do it.",
};

/** What a cleaning in a test finds. */
const CLEANED: CleanReport = {
  isDryRun: false,
  steps: [
    { kind: "device", object: "flannel.1", action: "remove", result: "done", error: null },
    { kind: "route", object: "10.5.1.0/24", action: "remove", result: "failed", error: "why" },
  ],
  notes: ["Kept: the rest."],
};

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What `run`, `demo` or `check` was called with; null if it was not. */
  readonly run: RunOptions | null;
  readonly demo: DemoOptions | null;
  readonly check: CheckOptions | null;
  readonly clean: CleanOptions | null;
}

/** Runs one command line, given as words; `etcd` is what it finds at any endpoint. */
export async function cli(
  args: readonly string[],
  io = new FakeIo(),
  etcd: (options: EtcdOptions) => Etcd = () => assert.fail("etcd is not part of this test"),
): Promise<CliResult> {
  let run: RunOptions | null = null;
  let demo: DemoOptions | null = null;
  let check: CheckOptions | null = null;
  let clean: CleanOptions | null = null;
  const deps: CliDeps = {
    version: "1.2.3",
    run: (options) => {
      run = options;
      return Promise.resolve(0);
    },
    demo: (options) => {
      demo = options;
      return Promise.resolve(7);
    },
    check: (options) => {
      check = options;
      return Promise.resolve(REPORT);
    },
    clean: (options) => {
      clean = options;
      return Promise.resolve(CLEANED);
    },
    // deno-lint-ignore require-await -- so that a refusal is a rejection
    openEtcd: async (options) => etcd(options),
    io,
  };
  const code = await runCli(args, deps);
  return { code, stdout: io.stdout, stderr: io.stderr, run, demo, check, clean };
}
