/** A host of a chaos test: a daemon that is cut off, stopped, killed and started at any time. */
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Status } from "../../src/agent/status.ts";
import { DemoHost } from "../../src/demo/host.ts";
import { type CutNetwork, outerAddress } from "./cut_network.ts";
import { EXECUTABLE } from "./lab.ts";

export class ChaosHost {
  readonly name: string;
  /** What the network knows it by. */
  readonly address: string;
  readonly directory: string;
  #daemon: DemoHost | null = null;
  #isCut = false;
  #isStopped = false;
  #isEnding = false;
  #calm_ms = 0;
  /** What it said when it was asked last; null: it does not run, or was not asked. */
  lastStatus: Status | null = null;
  /** How its daemons ended that nobody had ended. */
  readonly ownEnds: string[] = [];

  constructor(
    readonly network: CutNetwork,
    readonly number: number,
    directory: string,
    readonly flags: readonly string[],
  ) {
    this.name = `host${number}`;
    this.address = `${outerAddress(number)}`;
    this.directory = join(directory, this.name);
  }

  get isCut(): boolean {
    return this.#isCut;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Whether it runs, and has answered. */
  get isServing(): boolean {
    return this.isUp && this.lastStatus !== null;
  }

  /** Whether a daemon runs that nobody has told to end. */
  get isUp(): boolean {
    return this.#daemon !== null && !this.#isEnding;
  }

  get isDown(): boolean {
    return this.#daemon === null;
  }

  /** Since when nothing is done to it; Infinity: something is. */
  get calm_ms(): number {
    return this.#isCut || this.#isStopped || !this.isUp ? Infinity : this.#calm_ms;
  }

  /** Starts it with what it had. */
  start(): void {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const netns = this.network.host(this.number);
    const outer = outerAddress(this.number);
    const network = { name: this.name, host: netns, container: netns, outerAddress: outer };
    const daemon = DemoHost.start(EXECUTABLE, network, this.directory, this.flags);
    this.#daemon = daemon;
    this.#isEnding = this.#isStopped = false;
    this.#calm_ms = performance.now();
    daemon.process.once("exit", (code, signal) => {
      if (this.#daemon === daemon && !this.#isEnding) this.ownEnds.push(`${signal ?? code}`);
    });
  }

  /** Starts it as one that was never there; it asks for the subnet of this key, if any. */
  startNewly(wanted: string | null): void {
    const file = join(this.directory, "subnet.env");
    rmSync(file, { force: true });
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    if (wanted !== null) writeFileSync(file, `FLANNEL_SUBNET=${wanted.replace("-", "/")}\n`);
    this.start();
  }

  async #end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const daemon = this.#daemon!;
    this.#isEnding = true;
    const gone = once(daemon.process, "exit");
    // Not by child.kill(), which Deno takes for its end.
    process.kill(daemon.pid, signal);
    const [code, by] = await gone;
    if (signal === "SIGTERM" && code !== 0) this.ownEnds.push(`${by ?? code} at SIGTERM`);
    this.#daemon = null;
    this.lastStatus = null;
  }

  /** Ends it as a power cut would. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** Has it end by itself. One that is stopped does so when it goes on. */
  leave(): Promise<void> {
    return this.#end("SIGTERM");
  }

  cut(): void {
    this.#isCut = true;
    this.network.cut(this.number);
  }

  join(): void {
    this.network.join(this.number);
    this.#isCut = false;
    this.#calm_ms = performance.now();
  }

  /** Stops the daemon; what it returns has it go on, if it is there still. */
  stop(): () => void {
    const daemon = this.#daemon!;
    process.kill(daemon.pid, "SIGSTOP");
    this.#isStopped = true;
    return () => {
      if (this.#daemon !== daemon || daemon.process.signalCode !== null) return;
      process.kill(daemon.pid, "SIGCONT");
      this.#isStopped = false;
      this.#calm_ms = performance.now();
    };
  }

  /** Asks for its status, where it can answer. */
  async ask(): Promise<Status | null> {
    const daemon = this.#daemon;
    if (daemon === null || this.#isStopped) return null;
    const status = await daemon.status();
    return this.lastStatus = this.#daemon === daemon ? status : null;
  }

  /** Of all its daemons; empty where there was none. */
  get log(): string {
    const file = join(this.directory, "log");
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  }

  async close(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === null) return;
    const { exitCode, signalCode } = daemon.process;
    if (exitCode === null && signalCode === null) await this.#end("SIGKILL");
  }
}
