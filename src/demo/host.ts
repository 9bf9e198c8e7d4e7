/** One host of the demo: a real `selvage run`, in the host's namespace. */
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync, statSync } from "node:fs";
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
      if (this.hasEnded || performance.now() > end_ms) {
        const why = this.hasEnded ? "selvage run ended" : `not within ${timeout_ms / 1000} s`;
        const text = `${this.network.name}: ${what}: ${why}; its log ends with\n${this.logTail()}`;
        throw new SelvageError("unavailable", text);
      }
      await pause(POLL_MS, signal);
    }
  }

  /**
   * What changes while the daemon gets on: what it says of itself and in its log; until it answers,
   * the processor time and the disk reads (major faults) of its process.
   */
  async progressMark(): Promise<string> {
    const status = await this.status();
    const said = status === null
      ? this.#processMark()
      : JSON.stringify([status.phase, status.waitingFor, status.backend?.peerCount]);
    return `${statSync(this.#logFile).size} ${said}`;
  }

  /** Of `/proc/PID/stat` (proc_pid_stat(5)), after the name, which may hold blanks. */
  #processMark(): string {
    try {
      const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").replace(/^.*\) /, "").split(
        " ",
      );
      const [majorFaults, userTicks, systemTicks] = [fields[9], fields[11], fields[12]];
      return `${majorFaults} ${userTicks} ${systemTicks}`;
    } catch {
      return "";
    }
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /**
   * As `until`, as long as the daemon makes progress: it rejects when the daemon's status has not
   * changed for `timeout_ms`. `onLate` gets the text that says what the daemon waits for.
   */
  async untilStuck(
    what: string,
    isReached: (status: Status) => boolean,
    timeout_ms: number,
    signal: AbortSignal,
    onLate: (text: string) => void,
  ): Promise<Status> {
    for (let mark = await this.progressMark();;) {
      try {
        return await this.until(what, isReached, timeout_ms, signal);
      } catch (error) {
        const now = await this.progressMark();
        if (signal.aborted || this.hasEnded || now === mark) throw error;
        mark = now;
        const waitingFor = (await this.status())?.waitingFor ?? "it is still starting";
        onLate(`${this.network.name} takes long: ${waitingFor}`);
      }
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
