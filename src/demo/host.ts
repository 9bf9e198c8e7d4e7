/** One host of the demo: a real `selvage run`, in the host's namespace. */
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Status } from "../agent/status.ts";
import { openClient } from "../cli/client.ts";
import { SelvageError } from "../errors.ts";
import { pause } from "../retry.ts";
import { endProcess, spawnInNetns } from "./child.ts";
import type { HostNetwork } from "./topology.ts";

const POLL_MS = 25;
const LOG_LINES_SHOWN = 8;

/** How this very program is started again. */
export interface SelfCommand {
  readonly command: string;
  readonly args: readonly string[];
}

export class DemoHost {
  readonly #child: ChildProcess;
  readonly #logFile: string;
  readonly socketPath: string;

  private constructor(
    readonly network: HostNetwork,
    readonly directory: string,
    child: ChildProcess,
  ) {
    this.#child = child;
    this.#logFile = join(directory, "log");
    this.socketPath = join(directory, "api.sock");
  }

  /**
   * Starts the daemon; its files are in `directory`, which is there already. `linkFlags` choose its
   * outer interface.
   */
  static start(
    self: SelfCommand,
    network: HostNetwork,
    directory: string,
    flags: readonly string[],
    env: Readonly<Record<string, string>> = {},
    linkFlags: readonly string[] = ["--iface=eth0"],
  ): DemoHost {
    const args = [
      ...self.args,
      "run",
      ...linkFlags,
      `--state-dir=${directory}`,
      `--subnet-file=${join(directory, "subnet.env")}`,
      `--api-socket=${join(directory, "api.sock")}`,
      ...flags,
    ];
    const log = openSync(join(directory, "log"), "a", 0o600);
    try {
      const child = spawnInNetns(network.host, self.command, args, ["ignore", log, log], env);
      return new DemoHost(network, directory, child);
    } finally {
      closeSync(log);
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get client() {
    return openClient({ apiSocket: this.socketPath });
  }

  /** The end of its log, for when it does not do what it should. */
  logTail(): string {
    const lines = readFileSync(this.#logFile, "utf8").trimEnd().split("\n");
    return lines.slice(-LOG_LINES_SHOWN).map((line) => `    ${line}`).join("\n");
  }

  /** Its status, or null while it does not answer. */
  async status(): Promise<Status | null> {
    try {
      const response = await this.client.v1.status.$get();
      return response.ok ? await response.json() as Status : null;
    } catch {
      return null;
    }
  }

  /** Waits until the status is as wished. Rejects when the daemon ends or the time is over. */
  async until(
    what: string,
    isReached: (status: Status) => boolean,
    timeout_ms: number,
    signal: AbortSignal,
  ): Promise<Status> {
    const end_ms = performance.now() + timeout_ms;
    while (true) {
      signal.throwIfAborted();
      const status = await this.status();
      if (status !== null && isReached(status)) return status;
      const ended = this.#child.exitCode !== null || this.#child.signalCode !== null;
      if (ended || performance.now() > end_ms) {
        const why = ended ? "selvage run ended" : `not within ${timeout_ms / 1000} s`;
        const text = `${this.network.name}: ${what}: ${why}; its log ends with\n${this.logTail()}`;
        throw new SelvageError("unavailable", text);
      }
      await pause(POLL_MS, signal);
    }
  }

  /** Its process, for those who want to do more to it than stop it. */
  get process(): ChildProcess {
    return this.#child;
  }

  stop(): Promise<void> {
    return endProcess(this.#child);
  }
}
