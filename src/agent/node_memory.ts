/** Writes what a node remembers of its last run, sparingly: the state directory may be flash. */
import { createHash } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { timeOfDay_ms } from "../clock.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { errorText, SelvageError } from "../errors.ts";
import { writeFileAtomic } from "../files.ts";
import { isAwaitingHost, type Lease, leaseKey, sameNode } from "../lease/lease.ts";
import { logger } from "../log.ts";
import type { IpAddress, IpPrefix } from "../net/ip.ts";
import type { KnownLeases } from "./known_leases.ts";
import type { HeldSince, LeaseKeeper } from "./lease_keeper.ts";
import type { Network } from "./network.ts";
import {
  age_ms,
  bootId,
  formatLeaseFile,
  formatPeersFile,
  leaseFile,
  momentNow,
  PEERS_SIZE_MAX_BYTES,
  peersFile,
  readLeaseFile,
  readPeersFile,
  refusal,
  type RememberedLease,
} from "./remembered_state.ts";

/** How long after its first change the peers are written: many changes come together. */
const PEERS_DELAY_MS = 2_000;
/** Between two writes of the peers, at least; more where they are many. */
const PEERS_PAUSE_MIN_MS = 60_000;
const PEERS_PAUSE_MAX_MS = 15 * 60_000;
/** After a write of the peers that failed: the disk takes nothing, so that this wears nothing. */
const PEERS_RETRY_MS = 5_000;
/** No more than this is written on the average while peers come and go. */
const PEERS_BYTES_PER_MS = 2;

/** What a start without the store uses. */
export interface RememberedStart extends HeldSince {
  readonly network: Network;
  /** Reads them from the state directory. */
  readonly peers: () => Lease[];
}

export interface NodeMemoryOptions {
  readonly stateDir: string;
  /** Identifies the store; null: it is this node's own, which is never away. */
  readonly storeIdentity: string | null;
  /** The peers as of now. */
  readonly peers: () => readonly Lease[];
}

/** What to say while a node serves with a lease that its store has not confirmed yet. */
export function startNotice(
  keeper: Pick<LeaseKeeper, "lease" | "lostSince_ms" | "isOwn">,
  leases: KnownLeases,
): string {
  const count = leases.peers(keeper).filter((peer) => !isAwaitingHost(peer)).length;
  return "this host started while the store was away, and uses what it remembers: " +
    `its lease ${leaseKey(keeper.lease!.subnets)} and ${
      count === 1 ? "1 peer" : `${count} peers`
    }` +
    ". It asks the store for both as soon as the store is back";
}

export class NodeMemory {
  readonly #options: NodeMemoryOptions;
  readonly #log = logger("agent");
  readonly #boot = bootId();
  readonly #last: RememberedLease | null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #arePeersChanged = false;
  /** The text of the lease's file; null: this run has not got a lease yet. */
  #leaseText: string | null = null;
  /** The text of the peers' file as it was written last; empty: this run has not written it. */
  #peersDigest = "";
  /** Why each file could not be written; null: it was. */
  readonly #faults: Record<"lease" | "peers", string | null> = { lease: null, peers: null };
  #isForgotten = false;

  constructor(options: NodeMemoryOptions) {
    this.#options = options;
    this.#last = readLeaseFile(options.stateDir);
  }

  /** The subnets of the last run's lease, from any store; empty: there is no such lease. */
  get previousSubnets(): readonly IpPrefix[] {
    return this.#last?.lease.subnets ?? [];
  }

  /** Why a start without the store would fail; null: it would work. */
  get problem(): string | null {
    const fault = this.#faults.lease ?? this.#faults.peers;
    return fault === null ? null : `this host cannot remember its lease and peers: ${fault}. ` +
      "If it restarts while the store is away, it carries no packets until the store is back";
  }

  /**
   * What this node, which publishes these addresses, may start from while the store is away; else
   * null. `judge` throws if this host cannot obey a configuration.
   */
  recall(
    publicAddresses: readonly IpAddress[],
    judge: (config: NetworkConfig) => Network,
  ): RememberedStart | null {
    const { stateDir, storeIdentity } = this.#options;
    const last = this.#last;
    if (last === null || storeIdentity === null) return null;
    try {
      const now = momentNow(this.#boot);
      const reason = sameNode(last.lease, { publicAddresses })
        ? refusal(last, { storeIdentity, now })
        : "this host has another address now";
      if (reason !== null) throw new SelvageError("invalid_argument", reason);
      return {
        network: judge(last.config),
        lease: last.lease,
        taken_ms: now.steady_ms - age_ms(last.taken, now),
        peers: () => readPeersFile(stateDir, storeIdentity),
      };
    } catch (error) {
      const key = leaseKey(last.lease.subnets);
      this.#log.info`the remembered lease ${key} cannot be used without the store: ${
        errorText(error)
      }`;
      return null;
    }
  }

  /** Writes a lease that the store gave, renewed or confirmed, with the network it is of. */
  keepLease({ lease, taken_ms }: HeldSince, config: NetworkConfig): void {
    const { storeIdentity } = this.#options;
    const taken = { boot: this.#boot, steady_ms: taken_ms, now_ms: timeOfDay_ms(taken_ms) };
    this.#leaseText = formatLeaseFile({ storeIdentity, lease, config, taken });
    this.#writeLease(this.#leaseText);
  }

  #writeLease(text: string): void {
    if (!this.#isForgotten) this.#write("lease", leaseFile(this.#options.stateDir), text);
  }

  /**
   * Writes again what could not be written and what was deleted: the next renewal, which writes the
   * lease, may be a day away. To be called every few seconds; never throws.
   */
  check(): void {
    const { stateDir } = this.#options;
    const isWritten = this.#faults.lease === null && existsSync(leaseFile(stateDir));
    if (this.#leaseText !== null && !isWritten) this.#writeLease(this.#leaseText);
    if (this.#peersDigest === "" || existsSync(peersFile(stateDir))) return;
    this.#peersDigest = "";
    this.peersChanged();
  }

  /** Says that the peers have changed: they are written after a while. */
  peersChanged(): void {
    if (this.#options.storeIdentity === null) return;
    this.#arePeersChanged = true;
    if (this.#timer === null) this.#writePeersIn(PEERS_DELAY_MS);
  }

  #writePeersIn(delay_ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#writePeers();
    }, delay_ms);
    this.#timer.unref();
  }

  #writePeers(): void {
    if (!this.#arePeersChanged || this.#isForgotten) return;
    this.#arePeersChanged = false;
    const { stateDir, storeIdentity, peers } = this.#options;
    const text = formatPeersFile(storeIdentity!, peers());
    const digest = createHash("sha256").update(text).digest("base64");
    if (digest !== this.#peersDigest) {
      const isWritten = this.#write("peers", peersFile(stateDir), text);
      this.#peersDigest = isWritten ? digest : "";
      if (!isWritten) {
        this.#arePeersChanged = true;
        return this.#writePeersIn(PEERS_RETRY_MS);
      }
    }
    const pause_ms = Math.max(text.length / PEERS_BYTES_PER_MS, PEERS_PAUSE_MIN_MS);
    this.#writePeersIn(Math.min(pause_ms, PEERS_PAUSE_MAX_MS));
  }

  /** Whether it could be written. A disk that refuses writes stops no packets. */
  #write(what: "lease" | "peers", path: string, text: string): boolean {
    const hadProblem = this.problem !== null;
    try {
      if (text.length > PEERS_SIZE_MAX_BYTES) {
        throw new SelvageError("too_large", `${path} would be larger than it may be`);
      }
      writeFileAtomic(path, text, { mode: 0o600, directoryMode: 0o700 });
      this.#faults[what] = null;
    } catch (error) {
      this.#faults[what] = errorText(error);
    }
    if (this.problem !== null && !hadProblem) this.#log.warning`${this.problem}`;
    return this.#faults[what] === null;
  }

  /** Removes the files; nothing is written any more. */
  forget(): void {
    this.#isForgotten = true;
    this.#leaseText = null;
    const { stateDir } = this.#options;
    for (const path of [leaseFile(stateDir), peersFile(stateDir)]) rmSync(path, { force: true });
  }

  /** Writes everything that is not written yet. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#writePeers();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
