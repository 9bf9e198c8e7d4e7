/** Reports the peers that have another configuration than this host, so that no packets pass. */
import type { Backend } from "../backend/backend.ts";
import { findPartedPeers } from "../backend/parted_peers.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { isAwaitingHost, type Lease, leaseKey } from "../lease/lease.ts";
import { logger } from "../log.ts";
import { printable } from "../printable.ts";

/** So many peers of one kind are named. */
const NAMED_MAX = 3;

export interface PartedInput {
  readonly backend: Backend;
  readonly config: NetworkConfig;
  /** Every lease except for this host's. */
  readonly peers: readonly Lease[];
  /** Whether a lease among them is an older one of this host. */
  readonly isOwn?: (lease: Lease) => boolean;
  /** What of a newer configuration this host applies only after a restart; null: nothing. */
  readonly outdated: string | null;
}

function named(peers: readonly Lease[]): string {
  const names = peers.slice(0, NAMED_MAX).map(({ publicAddresses }) => `${publicAddresses[0]}`);
  const more = peers.length > NAMED_MAX ? ` and ${peers.length - NAMED_MAX} more` : "";
  return `${names.join(", ")}${more}`;
}

/** The problem in whole sentences, with what to do; null: there is none. Pure. */
export function partedProblem(input: PartedInput): string | null {
  const { backend, config, peers, outdated } = input;
  if (backend.carriesNothing) return null;
  const groups = findPartedPeers(config, peers, outdated !== null, input.isOwn);
  const parted = groups.flatMap((group) => group.peers);
  if (parted.length === 0) return null;
  const peerCount = peers.filter((peer) => !isAwaitingHost(peer) || parted.includes(peer)).length;
  const groupTexts = groups.map(({ what, peers }) =>
    `${named(peers)} ${peers.length === 1 ? "has" : "have"} ${what}`
  );
  const remedy = outdated === null
    ? `Restart Selvage ${
      parted.length === 1 ? "there" : "on these hosts"
    }. If a host is gone for ` +
      `good, delete its lease: selvage leases revoke ${leaseKey(parted[0]!.subnets)}`
    : `Restart Selvage on this host: the network's configuration has ${outdated}`;
  return printable(
    `packets do not pass between this host (backend ${config.backend.type}) and ` +
      `${parted.length} of its ${peerCount} peers: ${groupTexts.join("; ")}. ${remedy}`,
  );
}

export class PartedNotice {
  readonly #log = logger("agent");
  #problem: string | null = null;
  /** The objects from which the problem was computed. */
  #seen: readonly unknown[] = [];

  /**
   * The problem as of now, which is logged when it begins and when it has ended. It is drawn anew
   * if any of `sources` is another object than before; `input` is null while there is no path.
   */
  update(sources: readonly unknown[], input: () => PartedInput | null): string | null {
    if (sources.every((source, i) => source === this.#seen[i])) return this.#problem;
    this.#seen = sources;
    const now = input();
    const problem = now && partedProblem(now);
    this.#logChange(problem);
    return this.#problem = problem;
  }

  #logChange(problem: string | null): void {
    if (problem !== null && problem !== this.#problem) this.#log.warning`${problem}`;
    if (problem === null && this.#problem !== null) this.#log.info`no longer: ${this.#problem}`;
  }
}
