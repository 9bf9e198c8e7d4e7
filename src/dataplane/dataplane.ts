/** The userspace data plane: packet loops in workers, and the tables they forward by. */
import { STOP_FLAG_OFFSET } from "../../wasm/layout.ts";
import { errnoName } from "../../ffi/errno.ts";
import { createEventFd, signalEventFd } from "../../ffi/event_fd.ts";
import { closeFd } from "../../ffi/fd.ts";
import type { ForwardingEntry, SkippedPeer } from "../backend/backend.ts";
import { SelvageError } from "../errors.ts";
import type { Family } from "../net/ip.ts";
import { type LoopCounters, readCounters, type Role } from "./counters.ts";
import { ForwardingTable } from "./forwarding_table.ts";
import { type Overlay, writeLanes } from "./lanes.ts";
import { createMemory, type SharedMemory } from "./memory.ts";
import type { Offload } from "./offloads.ts";
import type { PeerCounters } from "./peer_table.ts";
import { readRefusedSources } from "./refused_sources.ts";
import type { WorkerMessage, WorkerStart } from "./worker_protocol.ts";

const ROLES: readonly Role[] = ["egress", "ingress"];
/**
 * How late workers are reported. Loading the module and instantiating the loops takes some ten
 * milliseconds, but much longer on a busy machine or a slow disk.
 */
const START_LATE_MS = 10_000;
/** A loop ends within one batch; one that takes longer hangs in the kernel. */
const STOP_WAIT_MS = 5000;

export interface DataplaneOptions {
  /** Where `worker.ts` is; in an executable only the entry point can tell. */
  readonly workerUrl: URL;
  /** At most one of each family. */
  readonly overlays: readonly Overlay[];
  /** Ends the wait for workers that have not started yet. */
  readonly signal?: AbortSignal;
  /** Called with a sentence if workers have not started after a while; `late_ms` is for tests. */
  readonly onLate?: (text: string) => void;
  readonly late_ms?: number;
}

/** How a loop ended that nobody had asked to. */
export interface LoopEnd {
  readonly role: Role;
  /** Of the descriptor that died; 0 if there is none. */
  readonly errno: number;
  /** What happened, for people. */
  readonly reason: string;
}

/** A loop did not end when it was told to: it still works on its descriptors. */
export class LoopHangs extends SelvageError {
  constructor(message: string) {
    super("internal", message);
  }
}

/** An outer address whose datagrams are refused, because no peer has it. */
export interface RefusedSource {
  readonly address: string;
  readonly datagrams: number;
  /** ms since 1970 when the last one came. */
  readonly last_ms: number;
  /** Lease key of the peer whose subnet held the inner source of the last one; null: of none. */
  readonly peerKey: string | null;
}

export interface DataplaneStatus extends LoopCounters {
  /** Of all families; what there is room for in each. */
  readonly peerCount: number;
  readonly peerCountMax: number;
  /** Active in every overlay. */
  readonly offloads: readonly Offload[];
  /** Queues of each overlay. */
  readonly queueCount: number;
  /** See `RunOptions`. */
  readonly trustsUnderlay: boolean;
  readonly allowsOutsideSources: boolean;
  /** At most 16 addresses a lane. */
  readonly refusedSources: readonly RefusedSource[];
}

interface LoopWorker {
  readonly worker: Worker;
  readonly ready: Promise<void>;
  /** Resolves in any case, once the loop is no longer running. */
  readonly ended: Promise<LoopEnd>;
  /** Ends a worker that has not started yet; call it when the loops are to stop. */
  giveUp(): void;
}

function endOf(role: Role, errno: number, error: string | null): LoopEnd {
  const detail = error ?? (errno === 0 ? "it was stopped" : errnoName(errno));
  return { role, errno, reason: `the ${role} loop ended: ${detail}` };
}

function startWorker(url: URL, start: WorkerStart): LoopWorker {
  const worker = new Worker(url, { type: "module" });
  const ready = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<LoopEnd>();
  const end = (errno: number, error: string | null): void => {
    const loopEnd = endOf(start.role, errno, error);
    ended.resolve(loopEnd);
    ready.reject(new SelvageError("internal", loopEnd.reason));
  };
  let isReady = false;
  worker.onmessage = ({ data }: MessageEvent<WorkerMessage>) => {
    if (data.type === "loaded") worker.postMessage(start);
    else if (data.type === "ready") {
      isReady = true;
      ready.resolve();
    } else end(data.errno, data.error);
  };
  worker.onerror = (event) => {
    // Unhandled, it would end the whole process.
    event.preventDefault();
    end(0, `its worker failed: ${event.message}`);
  };
  const giveUp = (): void => {
    if (isReady) return;
    worker.terminate();
    end(0, "its worker had not started yet");
  };
  return { worker, ready: ready.promise, ended: ended.promise, giveUp };
}

/** Of one peer, in both families. */
function sumOf(a: PeerCounters, b: PeerCounters): PeerCounters {
  const lower = (x: number | null, y: number | null) =>
    x === null || y === null ? x ?? y : Math.min(x, y);
  return {
    sentPackets: a.sentPackets + b.sentPackets,
    sentBytes: a.sentBytes + b.sentBytes,
    receivedPackets: a.receivedPackets + b.receivedPackets,
    receivedBytes: a.receivedBytes + b.receivedBytes,
    lastHeard_ms: Math.max(a.lastHeard_ms ?? 0, b.lastHeard_ms ?? 0) || null,
    pathMtu_bytes: lower(a.pathMtu_bytes, b.pathMtu_bytes),
  };
}

export class Dataplane {
  /** Resolves when a loop ends unasked; the others still run, so call `stop`. */
  readonly ended: Promise<LoopEnd>;
  readonly #shared: SharedMemory;
  readonly #tables: ReadonlyMap<Family, ForwardingTable>;
  readonly #wake_fd: number;
  readonly #overlays: readonly Overlay[];
  readonly #workers: readonly LoopWorker[];
  #stopping: Promise<void> | null = null;

  private constructor({ workerUrl, overlays }: DataplaneOptions) {
    this.#shared = createMemory();
    this.#overlays = overlays;
    this.#tables = new Map(
      overlays.map(({ family }) => [family, new ForwardingTable(this.#shared, family)]),
    );
    this.#wake_fd = createEventFd();
    const laneCount = writeLanes(this.#shared, overlays, this.#wake_fd);
    const { memory } = this.#shared;
    const workers: LoopWorker[] = [];
    for (let lane = 0; lane < laneCount; lane++) {
      for (const role of ROLES) workers.push(startWorker(workerUrl, { role, memory, lane }));
    }
    this.#workers = workers;
    const unasked = Promise.withResolvers<LoopEnd>();
    for (const { ended } of workers) {
      ended.then((end) => {
        if (this.#stopping === null) unasked.resolve(end);
      });
    }
    this.ended = unasked.promise;
  }

  /**
   * Starts all loops over empty tables, and waits for them as long as it takes, or until the signal
   * is aborted. Throws, with nothing left running, if one cannot start.
   */
  static async start(options: DataplaneOptions): Promise<Dataplane> {
    const { signal, onLate, late_ms = START_LATE_MS } = options;
    const dataplane = new Dataplane(options);
    // A failure there is reported by the workers that are waited for.
    const giveUp = () => void dataplane.stop().catch(() => {});
    signal?.addEventListener("abort", giveUp, { once: true });
    if (signal?.aborted) giveUp();
    const timer = setTimeout(() => {
      onLate?.(
        `the workers of the packet loops have not started after ${late_ms / 1000} s; ` +
          "Selvage still waits for them. This machine, or its disk, may be busy",
      );
    }, late_ms);
    const ready = await Promise.allSettled(dataplane.#workers.map((worker) => worker.ready));
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
    const failed = ready.find((result) => result.status === "rejected");
    if (failed !== undefined) {
      await dataplane.stop();
      throw failed.reason;
    }
    return dataplane;
  }

  /**
   * Makes `entries` the whole forwarding table, while packets flow; `ForwardingTable.apply`. Each
   * is of a family that has an overlay.
   */
  apply(entries: readonly ForwardingEntry[]): readonly SkippedPeer[] {
    const skipped: SkippedPeer[] = [];
    for (const [family, table] of this.#tables) {
      const own = entries.filter(({ subnet }) => subnet.family === family);
      skipped.push(...table.apply(own));
    }
    return skipped;
  }

  /** The overlay of a family; null: there is none. */
  overlay(family: Family): Overlay | null {
    return this.#overlays.find((one) => one.family === family) ?? null;
  }

  /** See `PeerTable.setPathMtu`: of the peer's tunnel of one family, by its lease key. */
  setPathMtu(family: Family, key: string, mtu_bytes: number, until_ms: number): void {
    this.#tables.get(family)?.setPathMtu(key, mtu_bytes, until_ms);
  }

  status(): DataplaneStatus {
    const tables = [...this.#tables.values()];
    const [first, ...others] = this.#overlays;
    return {
      ...readCounters(this.#shared),
      peerCount: tables.reduce((sum, { peerCount }) => sum + peerCount, 0),
      peerCountMax: Math.max(...tables.map(({ peerCountMax }) => peerCountMax)),
      offloads: first!.offloads.filter((one) => others.every((o) => o.offloads.includes(one))),
      queueCount: first!.queues.length,
      trustsUnderlay: first!.trustsUnderlay,
      allowsOutsideSources: first!.allowsOutsideSources,
      refusedSources: this.#refusedSources(),
    };
  }

  #refusedSources(): RefusedSource[] {
    const families = this.#overlays.flatMap(({ family, queues }) => queues.map(() => family));
    return families.flatMap((family, lane) =>
      readRefusedSources(this.#shared, lane, family).map(({ peerSlot, ...source }) => ({
        ...source,
        peerKey: peerSlot === null ? null : this.#tables.get(family)!.keyOf(peerSlot),
      }))
    );
  }

  /** A peer's counters by its lease key; null if it is not served. */
  peer(key: string): PeerCounters | null {
    const all = [...this.#tables.values()].map((table) => table.counters(key));
    return all.filter((one) => one !== null).reduce<PeerCounters | null>(
      (sum, one) => sum === null ? one : sumOf(sum, one),
      null,
    );
  }

  /**
   * Ends all loops and their workers; further calls wait for the first. The table and the counters
   * can still be read. Throws if a loop does not end: then the descriptors must not be closed.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    Atomics.store(this.#shared.u32, STOP_FLAG_OFFSET / 4, 1);
    signalEventFd(this.#wake_fd);
    for (const worker of this.#workers) worker.giveUp();
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const seconds = STOP_WAIT_MS / 1000;
      late.reject(new LoopHangs(`a packet loop did not end within ${seconds} s`));
    }, STOP_WAIT_MS);
    try {
      await Promise.race([Promise.all(this.#workers.map((worker) => worker.ended)), late.promise]);
    } finally {
      clearTimeout(timer);
    }
    for (const { worker } of this.#workers) worker.terminate();
    closeFd(this.#wake_fd);
  }
}
