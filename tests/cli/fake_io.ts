/** The outside of a command, in memory. */
import type { CliDeps, DemoOptions } from "../../src/cli/context.ts";
import type { CliIo } from "../../src/cli/io.ts";
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
  err(text: string): void {
    this.stderr += text;
  }
  now_ms(): number {
    return NOW_MS;
  }
  interrupted(): AbortSignal {
    return this.interrupt.signal;
  }
}

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What `run` or `demo` was called with; null if it was not. */
  readonly run: RunOptions | null;
  readonly demo: DemoOptions | null;
}

/** Runs one command line, given as words. */
export async function cli(args: readonly string[], io = new FakeIo()): Promise<CliResult> {
  let run: RunOptions | null = null;
  let demo: DemoOptions | null = null;
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
    io,
  };
  const code = await runCli(args, deps);
  return { code, stdout: io.stdout, stderr: io.stderr, run, demo };
}
