/** Keeps the packet loops of our tunnels running: one that ends unasked has all started anew. */
import type { Dataplane, DataplaneStatus } from "../dataplane/dataplane.ts";
import type { Offload } from "../dataplane/offloads.ts";
import { errorText } from "../errors.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import { logger } from "../log.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { Backoff, pause } from "../retry.ts";
import { closeTunnels, type OpenTunnels, openTunnels, type TunnelOptions } from "./open_tunnel.ts";
import type { DataPlaneStatus } from "./status.ts";

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 30_000;

export interface TunnelSupervisorOptions extends TunnelOptions {
  readonly reconciler: Reconciler;
  /** Called when the loops run: devices are there, tables are empty. */
  readonly onOpen: () => void;
  /** Called when they run no longer. */
  readonly onClosed: () => void;
}

export class TunnelSupervisor {
  readonly #options: TunnelSupervisorOptions;
  readonly #log = logger("data-path");
  readonly #closing = new AbortController();
  #open: OpenTunnels | null = null;
  #supervision: Promise<void> = Promise.resolve();
  #lastStatus: DataplaneStatus | null = null;
  #restartCount = 0;
  /** As last read. */
  #queueDrops = 0;

  constructor(options: TunnelSupervisorOptions) {
    this.#options = options;
  }

  /**
   * Throws, with nothing left behind, if a name or port is taken or a privilege is missing, or if
   * the signal is aborted before the loops run.
   */
  async open(): Promise<void> {
    const { reconciler, tunnels, onOpen } = this.#options;
    for (const { device } of tunnels) reconciler.ensureNameFree(device);
    const link = new LinkedSignal([this.#options.signal, this.#closing.signal]);
    const onLate = (text: string) => {
      this.#log.warning`${text}`;
      this.#options.onLate?.(text);
    };
    try {
      this.#open = await openTunnels({ ...this.#options, signal: link.signal, onLate });
    } finally {
      link.dispose();
    }
    this.#reportOffloads(this.#open.dataplane.status().offloads);
    onOpen();
  }

  #reportOffloads(active: readonly Offload[]): void {
    this.#log.info`offloads: ${active.join(", ") || "none"}`;
    const { offloads } = this.#options;
    const missing = offloads === "auto" ? [] : offloads.filter((one) => !active.includes(one));
    if (missing.length > 0) this.#log.warning`this kernel does not have ${missing.join(", ")}`;
  }

  /**
   * Supervises the open tunnels until `close`. `onFatal` gets an error that only a new process can
   * mend.
   */
  begin(onFatal: (error: unknown) => void): void {
    this.#supervision = this.#supervise().catch(onFatal);
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#closing;
    const closed = new Promise<null>((resolve) =>
      signal.addEventListener("abort", () => resolve(null), { once: true })
    );
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    while (this.#open !== null && !signal.aborted) {
      const start_ms = performance.now();
      const ended = await Promise.race([this.#open.dataplane.ended, closed]);
      if (ended === null) return;
      this.#log.error`${ended.reason}; starting the data plane anew`;
      if (performance.now() - start_ms > RETRY_MAX_MS) backoff.reset();
      await this.#shutDown();
      await this.#restart(backoff);
    }
  }

  async #restart(backoff: Backoff): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await pause(backoff.next_ms(), signal);
      if (signal.aborted) return;
      try {
        await this.open();
        this.#restartCount++;
        this.#log.info`packets are forwarded again`;
        return;
      } catch (error) {
        await this.#shutDown();
        this.#log.error`cannot start the data plane: ${errorText(error)}`;
      }
    }
  }

  async #shutDown(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    if (open === null) return;
    this.#options.onClosed();
    this.#lastStatus = open.dataplane.status();
    await closeTunnels(open);
  }

  /** null while the loops are being started anew. */
  get dataplane(): Dataplane | null {
    return this.#open?.dataplane ?? null;
  }

  /** Counters since the loops were last started; null: they never were. */
  status(): DataPlaneStatus | null {
    const counters = this.dataplane?.status() ?? this.#lastStatus;
    if (counters === null) return null;
    const drops = { ...counters.drops, egress_tun_queue_full: this.#countQueueDrops() };
    return { ...counters, drops, running: this.#open !== null, restartCount: this.#restartCount };
  }

  /** Packets that the kernel dropped because no loop read its device's queue fast enough. */
  #countQueueDrops(): number {
    const { reconciler, tunnels } = this.#options;
    if (this.#open === null) return this.#queueDrops;
    try {
      this.#queueDrops = tunnels.reduce((sum, { device }) => sum + reconciler.txDropped(device), 0);
    } catch (error) {
      this.#log.debug`cannot read how many packets were dropped: ${errorText(error)}`;
    }
    return this.#queueDrops;
  }

  /** Ends the loops; the devices go with their descriptors. Throws if a loop hangs. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#supervision;
    await this.#shutDown();
  }
}
