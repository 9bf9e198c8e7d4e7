/** One container of the demo, driven through the probe that runs in it. */
import type { ChildProcess, StdioOptions } from "node:child_process";
import { createInterface } from "node:readline";
import { SelvageError } from "../errors.ts";
import type { IpAddress } from "../net/ip.ts";
import { endProcess, spawnInNetns } from "./child.ts";
import type { SelfCommand } from "./host.ts";
import type { PingResult } from "./ping.ts";
import {
  PROBE_COMMAND,
  type ProbeAnswer,
  type ProbeReady,
  type ProbeRequest,
} from "./probe_protocol.ts";
import type { HostNetwork } from "./topology.ts";
import type { TransferResult } from "./transfer.ts";

/** A busy machine is slow, and loses nothing. */
const PING_TIMEOUT_MS = 3_000;
const TRANSFER_TIMEOUT_MS = 120_000;

export class Container {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #port = 0;

  /** Starts the probe, which `ready` waits for. The caller stops it in any case. */
  constructor(self: SelfCommand, readonly network: HostNetwork, readonly address: IpAddress) {
    const args = [...self.args, PROBE_COMMAND];
    const stdio: StdioOptions = ["pipe", "pipe", "inherit"];
    this.#child = spawnInNetns(network.container, self.command, args, stdio);
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    // A request to a probe that has ended: the missing answer says so.
    this.#child.stdin!.on("error", () => {});
  }

  /** Waits until the probe takes transfers. */
  async ready(): Promise<this> {
    const { port } = await nextLine<ProbeReady>(this.#lines, this.network.name);
    this.#port = port;
    return this;
  }

  async #ask(request: ProbeRequest): Promise<PingResult | TransferResult> {
    this.#child.stdin!.write(`${JSON.stringify(request)}\n`);
    const answer = await nextLine<ProbeAnswer>(this.#lines, this.network.name);
    if (answer.ok) return answer.result;
    throw new SelvageError("unavailable", `container on ${this.network.name}: ${answer.error}`);
  }

  async ping(other: Container, count: number): Promise<PingResult> {
    const address = other.address.toString();
    const timeout_ms = PING_TIMEOUT_MS;
    return await this.#ask({ do: "ping", address, count, timeout_ms }) as PingResult;
  }

  async transfer(other: Container, size_bytes: number): Promise<TransferResult> {
    return await this.#ask({
      do: "send",
      address: other.address.toString(),
      port: other.#port,
      size_bytes,
      timeout_ms: TRANSFER_TIMEOUT_MS,
    }) as TransferResult;
  }

  stop(): Promise<void> {
    this.#child.stdin!.end();
    return endProcess(this.#child);
  }
}

async function nextLine<T>(lines: AsyncIterator<string>, where: string): Promise<T> {
  const line = await lines.next();
  if (line.done) throw new SelvageError("unavailable", `the probe on ${where} ended`);
  return JSON.parse(line.value) as T;
}
