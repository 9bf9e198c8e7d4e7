/** The leases of the network as the store's watch told of them last. */
import type { Lease, LeaseChange } from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { logger } from "../log.ts";
import type { LeaseKeeper } from "./lease_keeper.ts";

export class KnownLeases {
  readonly #log = logger("agent");
  #table = LeaseTable.EMPTY;
  #isKnown = false;
  /** Whether the table holds only what an earlier run knew. */
  #isRemembered = false;

  /** Each change of thousands of leases is looked at in several places. */
  #lastPeers: {
    readonly table: LeaseTable;
    readonly own: Lease | undefined;
    readonly peers: readonly Lease[];
  } | null = null;

  get table(): LeaseTable {
    return this.#table;
  }

  /** Whether the store was read: before that there may be more. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /**
   * Uses what an earlier run knew until the store is read; meanwhile leases may have come or gone.
   */
  remember(peers: readonly Lease[]): void {
    if (this.#isKnown) return;
    this.#table = LeaseTable.of(peers);
    this.#isRemembered = true;
  }

  /** Takes what the watch yielded. False: it says nothing that is new. */
  apply(changes: readonly LeaseChange[]): boolean {
    if (changes.length === 0 && this.#isKnown) return false;
    this.#isKnown = true;
    // The first batch of a watch holds all leases.
    this.#table = (this.#isRemembered ? LeaseTable.EMPTY : this.#table).apply(changes);
    this.#isRemembered = false;
    // Asked first: a record that nobody wants is made all the same, for each of thousands.
    if (this.#log.isEnabledFor("debug")) {
      for (const change of changes) this.#log.debug`lease ${change.key}: ${change.type}`;
    }
    return true;
  }

  /** Every lease but our own, in the order of the subnets. `keeper` is null before there is one. */
  peers(
    keeper: Pick<LeaseKeeper, "lease" | "lostSince_ms" | "isOwn"> | null,
  ): readonly Lease[] {
    const { leases } = this.#table;
    // Lost, the subnets may be another's, and what is taken in their place may be shown before the
    // store has answered.
    if (keeper !== null && keeper.lostSince_ms !== null) {
      return leases.filter((lease) => !keeper.isOwn(lease));
    }
    const own = keeper?.lease ? this.#table.getBySubnets(keeper.lease.subnets) : undefined;
    const last = this.#lastPeers;
    if (last?.table === this.#table && last.own === own) return last.peers;
    const peers = leases.filter((lease) => lease !== own);
    this.#lastPeers = { table: this.#table, own, peers };
    return peers;
  }
}
