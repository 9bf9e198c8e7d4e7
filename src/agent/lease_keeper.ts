/** Takes our lease, renews it in time, and takes it again when it was revoked. */
import { errorText, hasCode } from "../errors.ts";
import {
  type Lease,
  type LeaseAttributes,
  type LeaseChange,
  leaseKey,
  sameNode,
} from "../lease/lease.ts";
import type { IpPrefix } from "../net/ip.ts";
import type { LeaseStore } from "../store/store.ts";
import { logger } from "../log.ts";
import { Backoff, pause } from "../retry.ts";

const RETRY_FIRST_MS = 1_000;
/** flannel's: a renewal that failed is tried again each minute at the latest. */
const RETRY_MAX_MS = 60_000;
/** setTimeout counts in 31 bits. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface LeaseKeeperOptions {
  readonly store: LeaseStore;
  readonly attributes: LeaseAttributes;
  readonly renewMargin_ms: number;
  /** Told why the lease cannot be had yet; null once it can. */
  readonly onWaiting: (reason: string | null) => void;
}

/** When a lease is to be renewed: the margin before its end, but not before half of it is over. */
export function renewalTime_ms(lease: Lease, margin_ms: number, now_ms: number): number | null {
  if (lease.expiry_ms === null) return null;
  return Math.max(lease.expiry_ms - margin_ms, now_ms + (lease.expiry_ms - now_ms) / 2);
}

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #log = logger("lease");
  #lease: Lease | null = null;
  #renewal_ms: number | null = null;
  /** Aborted when the store says that the lease is no longer ours. */
  #lost = new AbortController();

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  get lease(): Lease | null {
    return this.#lease;
  }

  get renewal_ms(): number | null {
    return this.#renewal_ms;
  }

  #take(lease: Lease): Lease {
    this.#lease = lease;
    this.#renewal_ms = renewalTime_ms(lease, this.#options.renewMargin_ms, Date.now());
    return lease;
  }

  /**
   * Takes a lease, trying until it gets one. Rejects with what the store refuses for good
   * (`unauthorized`) and, with the signal's reason, when aborted.
   */
  async acquire(previousSubnets: readonly IpPrefix[], signal: AbortSignal): Promise<Lease> {
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    const request = { attributes: this.#options.attributes, previousSubnets };
    while (true) {
      signal.throwIfAborted();
      try {
        const lease = await this.#options.store.acquire(request, signal);
        this.#lost = new AbortController();
        this.#options.onWaiting(null);
        return this.#take(lease);
      } catch (error) {
        signal.throwIfAborted();
        if (this.#lease === null && hasCode(error, "unauthorized")) throw error;
        this.#options.onWaiting(`no lease: ${errorText(error)}`);
        this.#log.warning`cannot take a lease: ${errorText(error)}`;
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  /** Looks for our own lease in what the store says has changed. */
  observe(changes: readonly LeaseChange[]): void {
    if (this.#lease === null) return;
    const key = leaseKey(this.#lease.subnets);
    for (const change of changes) {
      if (change.key !== key) continue;
      if (change.type === "delete" || !sameNode(change.lease, this.#options.attributes)) {
        this.#lost.abort();
      } else {
        this.#take(change.lease);
      }
    }
  }

  /**
   * Keeps the lease until the signal is aborted. `onMoved` is called, and awaited, when only other
   * subnets could be had.
   */
  async keep(signal: AbortSignal, onMoved: (lease: Lease) => Promise<void>): Promise<void> {
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    while (!signal.aborted) {
      const before = this.#lease!;
      await this.#untilDue(signal);
      if (signal.aborted) return;
      if (this.#lost.signal.aborted) {
        await this.#reacquire(before, signal, onMoved);
        continue;
      }
      // The timer may have been cut short; and a watch may have brought a later expiry.
      if (this.#renewal_ms === null || this.#renewal_ms > Date.now()) continue;
      try {
        const lease = this.#take(await this.#options.store.renew(this.#lease!, signal));
        this.#log.info`renewed ${leaseKey(lease.subnets)}`;
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        if (hasCode(error, "lease_lost")) this.#lost.abort();
        else {
          this.#log.warning`cannot renew the lease: ${errorText(error)}`;
          await pause(backoff.next_ms(), AbortSignal.any([signal, this.#lost.signal]));
        }
      }
    }
  }

  async #untilDue(signal: AbortSignal): Promise<void> {
    const due_ms = this.#renewal_ms ?? Infinity;
    const delay_ms = Math.min(Math.max(due_ms - Date.now(), 0), TIMER_MS_MAX);
    await pause(delay_ms, AbortSignal.any([signal, this.#lost.signal]));
  }

  async #reacquire(
    before: Lease,
    signal: AbortSignal,
    onMoved: (lease: Lease) => Promise<void>,
  ): Promise<void> {
    this.#log.warning`lease ${leaseKey(before.subnets)} was revoked; trying for the same subnet`;
    try {
      const lease = await this.acquire(before.subnets, signal);
      if (leaseKey(lease.subnets) === leaseKey(before.subnets)) {
        this.#log.info`holding ${leaseKey(lease.subnets)} again`;
        return;
      }
      this.#log.warning`the subnet is taken; this host moves to ${leaseKey(lease.subnets)}`;
      await onMoved(lease);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
