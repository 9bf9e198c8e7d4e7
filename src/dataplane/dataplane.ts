/** The userspace data plane: two packet loops in workers, and the table they forward by. */
import { STOP_FLAG_OFFSET } from "../../wasm/layout.ts";
import { errnoName } from "../../ffi/errno.ts";
import { createEventFd, signalEventFd } from "../../ffi/event_fd.ts";
import { closeFd } from "../../ffi/fd.ts";
import type { ForwardingEntry, SkippedPeer } from "../backend/backend.ts";
import { SelvageError } from "../errors.ts";
import type { IpPrefix } from "../net/ip.ts";
import { type LoopCounters, readCounters, type Role } from "./counters.ts";
import { ForwardingTable } from "./forwarding_table.ts";
import type { Overlay } from "./lanes.ts";
import { createMemory, type SharedMemory } from "./memory.ts";
import { type Offload, offloadBits } from "./offloads.ts";
import type { PeerCounters } from "./peer_table.ts";
import type { WorkerMessage, WorkerStart } from "./worker_protocol.ts";

const ROLES: readonly Role[] = ["egress", "ingress"];
/** Loading the module and instantiating the loops takes some ten milliseconds. */
const START_WAIT_MS = 10_000;
/** A loop ends within one batch; one that takes longer hangs in the kernel. */
const STOP_WAIT_MS = 5000;

export interface DataplaneOptions {
  /** Where `worker.ts` is; in an executable only the entry point can tell. */
  readonly workerUrl: URL;
  /** At most one of each family. */
  readonly overlays: readonly Overlay[];
}

/** How a loop ended that nobody had asked to. */
export interface LoopEnd {
  readonly role: Role;
  /** Of the descriptor that died; 0 if there is none. */
  readonly errno: number;
  /** What happened, for people. */
  readonly reason: string;
}

export interface DataplaneStatus extends LoopCounters {
  readonly peerCount: number;
  readonly peerCountMax: number;
  readonly offloads: readonly Offload[];
  /** Queues of each overlay. */
  readonly queueCount: number;
}

interface LoopWorker {
  readonly worker: Worker;
  readonly ready: Promise<void>;
  /** Resolves in any case, once the loop is no longer running. */
  readonly ended: Promise<LoopEnd>;
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
  const timer = setTimeout(() => {
    worker.terminate();
    end(0, `its worker did not start within ${START_WAIT_MS / 1000} s`);
  }, START_WAIT_MS);
  ended.promise.then(() => clearTimeout(timer));
  worker.onmessage = ({ data }: MessageEvent<WorkerMessage>) => {
    if (data.type === "loaded") worker.postMessage(start);
    else if (data.type === "ready") {
      clearTimeout(timer);
      ready.resolve();
    } else end(data.errno, data.error);
  };
  worker.onerror = (event) => {
    // Unhandled, it would end the whole process.
    event.preventDefault();
    end(0, `its worker failed: ${event.message}`);
  };
  return { worker, ready: ready.promise, ended: ended.promise };
}

/** The mask of an IPv4 prefix, in host order. */
function maskOf(prefix: IpPrefix): number {
  return prefix.length === 0 ? 0 : (-1 << (32 - prefix.length)) >>> 0;
}

export class Dataplane {
  /** Resolves when a loop ends unasked; the other still runs, so call `stop`. */
  readonly ended: Promise<LoopEnd>;
  readonly #shared: SharedMemory;
  readonly #table: ForwardingTable;
  readonly #wake_fd: number;
  readonly #offloads: readonly Offload[];
  readonly #workers: readonly LoopWorker[];
  #stopping: Promise<void> | null = null;

  private constructor(options: DataplaneOptions) {
    const { workerUrl, overlays: [overlay] } = options;
    const { icmp_fd, queues: [queue] } = overlay!;
    const { tun_fd, receive_fd: udp_fd } = queue!;
    const tunAddress = overlay!.tunAddress.toUint32();
    this.#shared = createMemory();
    this.#table = new ForwardingTable(this.#shared);
    this.#wake_fd = createEventFd();
    const { memory } = this.#shared;
    const wake_fd = this.#wake_fd;
    const offloads = offloadBits(overlay!.offloads);
    const network = overlay!.network.address.toUint32();
    const networkMask = maskOf(overlay!.network);
    const fds = { tun_fd, udp_fd, icmp_fd, wake_fd };
    const start = { memory, ...fds, tunAddress, network, networkMask, offloads };
    this.#offloads = overlay!.offloads;
    this.#workers = ROLES.map((role) => startWorker(workerUrl, { role, ...start }));
    const unasked = Promise.withResolvers<LoopEnd>();
    for (const { ended } of this.#workers) {
      ended.then((end) => {
        if (this.#stopping === null) unasked.resolve(end);
      });
    }
    this.ended = unasked.promise;
  }

  /** Starts both loops over an empty table. Throws, with nothing left running, if one cannot. */
  static async start(options: DataplaneOptions): Promise<Dataplane> {
    const dataplane = new Dataplane(options);
    const ready = await Promise.allSettled(dataplane.#workers.map((worker) => worker.ready));
    const failed = ready.find((result) => result.status === "rejected");
    if (failed !== undefined) {
      await dataplane.stop();
      throw failed.reason;
    }
    return dataplane;
  }

  /** Makes `entries` the whole forwarding table, while packets flow; `ForwardingTable.apply`. */
  apply(entries: readonly ForwardingEntry[]): readonly SkippedPeer[] {
    return this.#table.apply(entries);
  }

  status(): DataplaneStatus {
    const { peerCount, peerCountMax } = this.#table;
    const offloads = this.#offloads;
    return { ...readCounters(this.#shared), peerCount, peerCountMax, offloads, queueCount: 1 };
  }

  /** A peer's counters by its lease key; null if it is not served. */
  peer(key: string): PeerCounters | null {
    return this.#table.counters(key);
  }

  /**
   * Ends both loops and their workers; further calls wait for the first. The table and the counters
   * can still be read. Throws if a loop does not end: then the descriptors must not be closed.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    Atomics.store(this.#shared.u32, STOP_FLAG_OFFSET / 4, 1);
    signalEventFd(this.#wake_fd);
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const seconds = STOP_WAIT_MS / 1000;
      late.reject(new SelvageError("internal", `a packet loop did not end within ${seconds} s`));
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
