/** The leases of the network as the store's watch told of them last. */
import type { NetworkConfig } from "../config/network_config.ts";
import { type Lease, type LeaseChange, sameNode } from "../lease/lease.ts";
import { isReservable } from "../lease/allocator.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { logger } from "../log.ts";
import type { LeaseKeeper } from "./lease_keeper.ts";

/** Whether a lease is a reservation for the node of `own` that the node does not use yet. */
function isReservedFor(own: Lease, lease: Lease): boolean {
  return lease !== own && lease.expiry_ms === null && sameNode(lease, own);
}

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

  /**
   * Every lease of other nodes, in the order of the subnets: not our own, and no reservation for
   * this host, which no other host has. `keeper` is null before there is one.
   */
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
    const peers = leases.filter((lease) =>
      lease !== own && (own === undefined || !isReservedFor(own, lease))
    );
    this.#lastPeers = { table: this.#table, own, peers };
    return peers;
  }

  /**
   * A few sentences on each reservation for this host that it does not use: when it will use it, or
   * why it cannot.
   */
  reservationNotices(keeper: Pick<LeaseKeeper, "lease">, config: NetworkConfig): string[] {
    const own = keeper.lease ? this.#table.getBySubnets(keeper.lease.subnets) : undefined;
    if (own === undefined) return [];
    return this.#table.leases.filter((lease) => isReservedFor(own, lease)).map(({ subnets }) => {
      const text = `${subnets.join(",")} is reserved for this host, which uses ` +
        `${own.subnets.join(",")} now`;
      return isReservable(config, subnets)
        ? `${text}. Restart selvage on this host to use the reserved subnet`
        : `${text} and cannot use the reservation, because it does not lie in the network. ` +
          `Revoke it: selvage leases revoke ${subnets.join(",")}`;
    });
  }
}
