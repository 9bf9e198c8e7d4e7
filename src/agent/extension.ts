/**
 * Backend `extension` at work: which of the user's commands runs when, and with which data. The
 * same as in flannel, with two exceptions: a failed command is tried again, and no command runs for
 * a peer whose lease is only renewed.
 */
import type { CommandPeer, ExtensionCommands, SkippedPeer } from "../backend/backend.ts";
import { checkCommandData } from "../backend/extension.ts";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import { type IpAddress, type IpPrefix, ofFamily } from "../net/ip.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { printable } from "../printable.ts";
import { Backoff, pause } from "../retry.ts";
import { type PeerAct, PeerCommands } from "./peer_commands.ts";
import { RepeatLog } from "./repeat_log.ts";
import { runShellCommand, type ShellCommand } from "./shell_command.ts";

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** A tidy end is not held up for longer. */
const SHUTDOWN_TIMEOUT_MS = 5_000;

export interface ExtensionOptions {
  readonly commands: ExtensionCommands;
  /** One of each family that the network carries, and our own subnets and addresses. */
  readonly networks: readonly IpPrefix[];
  readonly subnets: readonly IpPrefix[];
  readonly publicAddresses: readonly IpAddress[];
}

/** The host or peer whose subnets and addresses a command gets. */
type Subject = Pick<ExtensionOptions, "subnets" | "publicAddresses">;

/** How much of a command is shown in the log. */
const SHOWN_LENGTH_MAX = 200;

/** flannel's variables, and IPV6NETWORK; empty where there is nothing of the family. */
function environmentOf(
  networks: readonly IpPrefix[],
  { subnets, publicAddresses }: Subject,
): Record<string, string> {
  return {
    NETWORK: `${ofFamily(networks, 4) ?? ""}`,
    SUBNET: `${ofFamily(subnets, 4) ?? ""}`,
    PUBLIC_IP: `${ofFamily(publicAddresses, 4) ?? ""}`,
    IPV6NETWORK: `${ofFamily(networks, 6) ?? ""}`,
    IPV6SUBNET: `${ofFamily(subnets, 6) ?? ""}`,
    PUBLIC_IPV6: `${ofFamily(publicAddresses, 6) ?? ""}`,
  };
}

/** Runs a command, and says what was run, how it ended, and how long it took. */
async function runLogged(
  command: ShellCommand,
  signal: AbortSignal,
  what: string,
  say: (text: string) => void,
): Promise<string> {
  const start_ms = performance.now();
  const took = () => `after ${((performance.now() - start_ms) / 1000).toFixed(2)} s`;
  try {
    const output = await runShellCommand(command, signal);
    say(`${what} ended with status 0 ${took()}`);
    return output;
  } catch (error) {
    say(`${what} failed ${took()}: ${errorText(error)}`);
    throw error;
  }
}

/** Logs which commands this host is going to run, by their names in the configuration. */
export function announceCommands(commands: ExtensionCommands): void {
  const named = [
    ["PreStartupCommand", commands.preStartup],
    ["PostStartupCommand", commands.postStartup],
    ["SubnetAddCommand", commands.subnetAdd],
    ["SubnetRemoveCommand", commands.subnetRemove],
    ["ShutdownCommand", commands.shutdown],
  ] as const;
  for (const [name, text] of named) {
    if (text === null) continue;
    const shown = printable(text.slice(0, SHOWN_LENGTH_MAX));
    logger("extension").info`${name} of the network's configuration: ${shown}`;
  }
}

/** Told of a command that the start waits for. */
export interface StartObserver {
  /** It begins to run for the first time; `text` says so in one sentence. */
  onRun(text: string): void;
  /** It did not end well, and why; it is tried again. */
  onFailure(reason: string): void;
}

/**
 * Runs PreStartupCommand until it ends well, having printed no more than a lease can hold, and
 * resolves with that; with null if there is none. Rejects with the signal's reason.
 */
export async function runPreStartup(
  { preStartup: text }: ExtensionCommands,
  signal: AbortSignal,
  observer: StartObserver,
): Promise<string | null> {
  if (text === null) return null;
  observer.onRun("PreStartupCommand is running");
  const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
  const command = { name: "PreStartupCommand", text, environment: {}, input: "" };
  while (true) {
    signal.throwIfAborted();
    try {
      const data = await runLogged(command, signal, command.name, (line) => {
        logger("extension").info`${line}`;
      });
      checkCommandData(data);
      return data;
    } catch (error) {
      signal.throwIfAborted();
      observer.onFailure(errorText(error));
    }
    await pause(backoff.next_ms(), signal);
  }
}

export class Extension {
  readonly #options: ExtensionOptions;
  readonly #log = logger("extension");
  readonly #peers = new PeerCommands({
    run: (act, peer, signal) => this.#runFor(act, peer, signal),
  });
  /** Of thousands of peers each run is counted, and only some are named. */
  readonly #runs = new RepeatLog((text) => this.#log.info`${text}`);
  readonly #closing = new AbortController();
  /** Why PostStartupCommand is still to be run. */
  #problem: string | null = null;
  #starting: Promise<void> = Promise.resolve();

  constructor(options: ExtensionOptions) {
    this.#options = options;
  }

  async #run(
    name: string,
    text: string | null,
    subject: Subject,
    { signal, input = "", timeout_ms }: {
      readonly signal: AbortSignal;
      readonly input?: string;
      readonly timeout_ms?: number;
    },
  ): Promise<void> {
    if (text === null) return;
    const environment = environmentOf(this.#options.networks, subject);
    const what = `${name} for ${subject.subnets.join(", ")}`;
    const command = { name, text, environment, input, timeout_ms };
    const output = await runLogged(command, signal, what, (line) => this.#runs.tell(line));
    this.#log.debug`${what}: ${output}`;
  }

  #runFor(act: PeerAct, peer: CommandPeer, signal: AbortSignal): Promise<void> {
    const { subnetAdd, subnetRemove } = this.#options.commands;
    const entries = [peer, ...(peer.ipv6 === null ? [] : [peer.ipv6])];
    const of = {
      subnets: entries.map(({ subnet }) => subnet),
      publicAddresses: entries.map(({ address }) => address),
    };
    const how = { input: peer.data, signal };
    return act === "add"
      ? this.#run("SubnetAddCommand", subnetAdd, of, how)
      : this.#run("SubnetRemoveCommand", subnetRemove, of, how);
  }

  /**
   * Runs PostStartupCommand, and then those of the peers. Resolves after the first try; where that
   * fails, it goes on trying until `close`. The signal ends the first try early.
   */
  async start(signal: AbortSignal): Promise<void> {
    const both = new LinkedSignal([signal, this.#closing.signal]);
    const isDone = await this.#tryStart(both.signal);
    both.dispose();
    if (!isDone && !signal.aborted) this.#starting = this.#keepStarting();
  }

  async #tryStart(signal: AbortSignal): Promise<boolean> {
    const { commands } = this.#options;
    try {
      await this.#run("PostStartupCommand", commands.postStartup, this.#options, { signal });
    } catch (error) {
      if (errorText(error) !== this.#problem) this.#log.warning`${errorText(error)}`;
      this.#problem = errorText(error);
      return false;
    }
    this.#problem = null;
    this.#peers.begin();
    return true;
  }

  async #keepStarting(): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    do {
      await pause(backoff.next_ms(), signal);
    } while (!signal.aborted && !await this.#tryStart(signal));
  }

  /** Says which peers there are. */
  update(peers: readonly CommandPeer[]): void {
    this.#peers.update(peers);
  }

  /** Peers whose command has failed, or not ended yet. */
  get failed(): readonly SkippedPeer[] {
    return this.#peers.failed;
  }

  /** What is not as it should be, one sentence each; it is tried again. */
  get problems(): readonly string[] {
    return [...(this.#problem === null ? [] : [this.#problem]), ...this.#peers.problems];
  }

  /** Runs ShutdownCommand; before that, with `isCleared`, SubnetRemoveCommand for each peer. */
  async close(isCleared: boolean): Promise<void> {
    this.#closing.abort();
    await this.#starting;
    await this.#peers.close(isCleared);
    const { signal } = new AbortController();
    const how = { signal, timeout_ms: SHUTDOWN_TIMEOUT_MS };
    try {
      await this.#run("ShutdownCommand", this.#options.commands.shutdown, this.#options, how);
    } catch (error) {
      this.#log.warning`${errorText(error)}`;
    } finally {
      this.#runs.stop();
    }
  }
}
