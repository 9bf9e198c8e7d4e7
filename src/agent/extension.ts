/**
 * Backend `extension` at work: which of the user's commands is run when, and what it is told. As
 * flannel has it, but that what fails is tried again, and that a peer whose lease is only renewed
 * is left alone.
 */
import type { CommandPeer, ExtensionCommands, SkippedPeer } from "../backend/backend.ts";
import { checkCommandData } from "../backend/extension.ts";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { Backoff, pause } from "../retry.ts";
import { type PeerAct, PeerCommands } from "./peer_commands.ts";
import { runShellCommand } from "./shell_command.ts";

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** A tidy end is not held up for longer. */
const SHUTDOWN_TIMEOUT_MS = 5_000;

export interface ExtensionOptions {
  readonly commands: ExtensionCommands;
  /** The network, our subnet and our address, as texts. */
  readonly network: string;
  readonly subnet: string;
  readonly publicAddress: string;
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
      const data = await runShellCommand(command, signal);
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
    { subnet, publicAddress }: { readonly subnet: string; readonly publicAddress: string },
    { signal, input = "", timeout_ms }: {
      readonly signal: AbortSignal;
      readonly input?: string;
      readonly timeout_ms?: number;
    },
  ): Promise<void> {
    if (text === null) return;
    const { network } = this.#options;
    const environment = { NETWORK: network, SUBNET: subnet, PUBLIC_IP: publicAddress };
    const output = await runShellCommand({ name, text, environment, input, timeout_ms }, signal);
    this.#log.debug`${name} for ${subnet}: ${output}`;
  }

  #runFor(act: PeerAct, peer: CommandPeer, signal: AbortSignal): Promise<void> {
    const { subnetAdd, subnetRemove } = this.#options.commands;
    const of = { subnet: `${peer.subnet}`, publicAddress: `${peer.address}` };
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
    }
  }
}
