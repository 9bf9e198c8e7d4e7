/** Takes our lease, renews it in time, and takes it again when it was revoked. */
import { MACHINE_CLOCK, type SteadyClock, timeOfDay_ms } from "../clock.ts";
import { adviceText, errorText, hasCode, isStoreFault, SelvageError } from "../errors.ts";
import {
  type Lease,
  type LeaseAttributes,
  type LeaseChange,
  leaseKey,
  type LeaseRequest,
  sameNode,
} from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { logger } from "../log.ts";
import type { IpPrefix } from "../net/ip.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { Backoff, pause } from "../retry.ts";
import { LEASE_TTL_MS, type LeaseStore } from "../store/store.ts";
import { isSameValue, LeaseRival } from "./lease_rival.ts";
import { isFinal } from "./network.ts";

const RETRY_FIRST_MS = 1_000;
/** flannel's: a renewal that failed is tried again each minute at the latest. */
const RETRY_MAX_MS = 60_000;
/** A lease taken again that no watch shows is asked after: first so soon, then less often. */
const UNSEEN_FIRST_MS = 1_000;
const UNSEEN_MAX_MS = 60_000;
/** How often the clock is looked at: timers stand still while the machine sleeps. */
const CLOCK_CHECK_MS = 60_000;
/** How long the first call for a lease may take where there is one that it can start from. */
export const STORE_ANSWER_MAX_MS = 2_000;

/** A lease, and when the store gave, renewed or confirmed it, by the steady clock. */
export interface HeldSince {
  readonly lease: Lease;
  readonly taken_ms: number;
}

export interface LeaseKeeperOptions {
  readonly store: LeaseStore;
  readonly attributes: LeaseAttributes;
  readonly renewMargin_ms: number;
  /** How long a lease is good for when it was just taken or renewed. */
  readonly ttl_ms?: number;
  /** A lease that still holds and that `acquire` returns if the store is away; null: none. */
  readonly remembered?: HeldSince | null;
  /** Told each time that the store has given, renewed or confirmed the lease. */
  readonly onTaken?: () => void;
  readonly clock?: SteadyClock;
  /** Told why the lease cannot be had yet; null once it can. */
  readonly onWaiting: (reason: string | null) => void;
  /** Told why, once, when there is surely no lease that is ours, or could be; awaited. */
  readonly onNone?: (reason: string) => Promise<void>;
}

/**
 * After how long a lease is renewed: the margin before its end, but not before half of it is over.
 * It counts from when the store said yes, by our own clock: the expiry is by the store's.
 */
export function renewalDelay_ms(ttl_ms: number, margin_ms: number): number {
  return Math.max(ttl_ms - margin_ms, ttl_ms / 2);
}

/** Whether a reservation moves its host away from the subnets of the lease key `before`. */
function isReservedMove(before: string, { subnets, expiry_ms }: Lease): boolean {
  return expiry_ms === null && leaseKey(subnets) !== before;
}

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  #attributes: LeaseAttributes;
  /** What the store has of us. */
  #published: LeaseAttributes;
  /** Ends a sleep early. */
  #wake = new AbortController();
  readonly #ttl_ms: number;
  readonly #log = logger("lease");
  readonly #clock: SteadyClock;
  #lease: Lease | null = null;
  /** When the store gave, renewed or confirmed the lease, by the steady clock. */
  #taken_ms = 0;
  /** Whether the store has given or confirmed the lease in this run. */
  #isConfirmed = false;
  /** Aborted when the store says that the lease is no longer ours. */
  #lost = new AbortController();
  /** Since when, by the steady clock; null: it is ours. */
  #lostSince_ms: number | null = null;
  /** Who has the lost lease now; null: nobody that we know of. */
  #taker: string | null = null;
  /** What kept a lease from being taken when it was tried last; null: nothing. */
  #waitsFor: "store" | "subnet" | null = null;
  /** Whether it was said that there is no lease. */
  #isNone = false;
  /** Whether it was so until the lease was taken. */
  #wasNone = false;
  /**
   * Whether a watch must show the lease. One that runs while the lease is taken again may have
   * changes under way that are older than it.
   */
  #mustShow = true;
  /** What the watch has shown, all changes together; empty where that is known to be old. */
  #seen = LeaseTable.EMPTY;
  /**
   * When the store is asked whether a lease is ours that no watch has shown, by the clock that
   * never jumps: one that came and went in a single look is never shown.
   */
  #askAt_ms = Infinity;
  readonly #unseenBackoff = new Backoff(UNSEEN_FIRST_MS, UNSEEN_MAX_MS);
  readonly #rival = new LeaseRival();
  readonly #rivalBackoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
    this.#attributes = options.attributes;
    this.#published = options.attributes;
    this.#ttl_ms = options.ttl_ms ?? LEASE_TTL_MS;
    this.#clock = options.clock ?? MACHINE_CLOCK;
  }

  get lease(): Lease | null {
    return this.#lease;
  }

  /** When the store gave, renewed or confirmed the lease, by the steady clock. */
  get taken_ms(): number {
    return this.#taken_ms;
  }

  /** Whether the store has said in this run that the lease is ours. */
  get isConfirmed(): boolean {
    return this.#isConfirmed;
  }

  /** When it ends unless renewed, by our own clock, in ms since 1970; null for a reservation. */
  get expiry_ms(): number | null {
    return this.#hasEnd ? timeOfDay_ms(this.#taken_ms + this.#ttl_ms, this.#clock) : null;
  }

  /** When it is to be renewed, in ms since 1970; null for a reservation. */
  get renewal_ms(): number | null {
    return this.#hasEnd ? timeOfDay_ms(this.#renewAt_ms, this.#clock) : null;
  }

  /** A reservation has none, and neither has a lease that there is not. */
  get #hasEnd(): boolean {
    return this.#lease !== null && this.#lease.expiry_ms !== null;
  }

  /** When it is to be renewed, by the steady clock. */
  get #renewAt_ms(): number {
    return this.#taken_ms + renewalDelay_ms(this.#ttl_ms, this.#options.renewMargin_ms);
  }

  /** Whether the lease is this node's, by its public address. */
  isOwn(lease: Lease): boolean {
    return sameNode(lease, this.#attributes) || sameNode(lease, this.#published);
  }

  /** Since when the store says that the lease is not ours, in ms since 1970; null: it is. */
  get lostSince_ms(): number | null {
    return this.#lostSince_ms === null ? null : timeOfDay_ms(this.#lostSince_ms, this.#clock);
  }

  /** Whether `onNone` was called, and there is still no lease. */
  get isNone(): boolean {
    return this.#isNone;
  }

  /** Why the other hosts send to an address that this host no longer uses; null: they do not. */
  get addressProblem(): string | null {
    const now = this.#attributes.publicAddresses.join(", ");
    const known = this.#published.publicAddresses.join(", ");
    if (this.#lease === null || this.#isNone || now === known) return null;
    return `the other hosts send this host's packets to ${known}, but its address is ${now} now. ` +
      "The new address is published as soon as the store answers";
  }

  /** Who else publishes our lease, or has done so in the last minutes; null: nobody. */
  get rivalProblem(): string | null {
    return this.#lease && this.#rival.problem(this.#lease, this.#attributes);
  }

  #take(lease: Lease): Lease {
    this.#lease = lease;
    this.#taken_ms = this.#clock.steady_ms();
    this.#isConfirmed = true;
    this.#options.onTaken?.();
    return lease;
  }

  /** Goes on with the remembered lease; `keep` asks the store to confirm it. Throws without one. */
  adopt(): Lease {
    const { remembered } = this.#options;
    if (remembered === undefined || remembered === null) throw new Error("no lease to adopt");
    this.#lease = remembered.lease;
    this.#published = remembered.lease;
    this.#taken_ms = remembered.taken_ms;
    // Until the store has confirmed the lease, a list without it is no news.
    this.#mustShow = false;
    this.#options.onWaiting(null);
    return remembered.lease;
  }

  #isDue(): boolean {
    if (!isSameValue(this.#attributes, this.#published)) return true;
    if (performance.now() >= this.#askAt_ms) return true;
    return this.#hasEnd && this.#clock.steady_ms() >= this.#renewAt_ms;
  }

  /** Has the lease say this of us; if it says something else, it is renewed at once. */
  publish(attributes: LeaseAttributes): void {
    this.#attributes = attributes;
    this.#wakeUp();
  }

  /**
   * Takes a lease, trying until it gets one; if the store is away, the remembered one is adopted.
   * Rejects with what the store refuses for good (`unauthorized`, while there is no lease) and,
   * with the signal's reason, when aborted.
   */
  async acquire(previousSubnets: readonly IpPrefix[], signal: AbortSignal): Promise<Lease> {
    const done = new AbortController();
    const link = new LinkedSignal([signal, done.signal]);
    try {
      const lease = await this.#acquire(previousSubnets, signal, link.signal);
      this.#logReservedMove(previousSubnets, lease);
      return lease;
    } finally {
      done.abort();
      link.dispose();
    }
  }

  /** Until there is a first lease nobody else watches the store. */
  async #followStore(signal: AbortSignal): Promise<void> {
    for await (const changes of this.#options.store.watch(signal)) this.noteStoreSign(changes);
  }

  async #acquire(
    previousSubnets: readonly IpPrefix[],
    signal: AbortSignal,
    listening: AbortSignal,
  ): Promise<Lease> {
    let isListening = this.#lease !== null;
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    while (true) {
      signal.throwIfAborted();
      const request = { attributes: this.#attributes, previousSubnets };
      // What changes during the call may make it worth another at once.
      const woken = this.#wake.signal;
      try {
        const lease = await this.#ask(request, signal);
        this.#lost = new AbortController();
        this.#lostSince_ms = null;
        this.#taker = null;
        this.#waitsFor = null;
        this.#wasNone = this.#isNone;
        this.#isNone = false;
        this.#published = request.attributes;
        this.#options.onWaiting(null);
        // The watch may have been faster than the answer, and then has no more to tell.
        this.#mustShow = this.#lease === null ||
          this.#isShown(this.#seen.getBySubnets(lease.subnets));
        this.#unseenBackoff.reset();
        this.#askAt_ms = this.#mustShow ? Infinity : this.#nextAsk_ms();
        return this.#take(lease);
      } catch (error) {
        signal.throwIfAborted();
        if (this.#lease === null) {
          if (isFinal(this.#options.store, error)) throw error;
          if (this.#options.remembered && isStoreFault(error)) {
            this.#log.warning`the store does not give a lease: ${errorText(error)}`;
            return this.adopt();
          }
        }
        const why = isStoreFault(error) ? errorText(error) : adviceText(error);
        const reason = this.#taker === null
          ? why
          : `${leaseKey(this.#lease!.subnets)} is ${this.#taker}'s now; ${why}`;
        this.#log.warning`cannot ${this.#isConfirmed ? "take" : "confirm"} a lease: ${reason}`;
        // What was ours would be given to us: if nothing is free, another has it.
        const isNone = this.#taker !== null || hasCode(error, "out_of_subnets");
        if (isNone) await this.#stopServing(`no lease: ${reason}`);
        // A remembered lease is used until the store says otherwise.
        const isServing = !this.#isConfirmed && this.#lease !== null && isStoreFault(error);
        if (!isServing) this.#options.onWaiting(`no lease: ${reason}`);
        if (!isListening) this.#followStore(listening).catch(() => {});
        isListening = true;
        this.#waitsFor = hasCode(error, "unavailable") ? "store" : "subnet";
        await this.#waitToAsk(backoff.next_ms(), signal, woken);
      }
    }
  }

  /** The first call is bounded where there is a lease to start from without an answer. */
  #ask(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { store, remembered } = this.#options;
    if (!remembered || this.#lease !== null) return store.acquire(request, signal);
    const link = new LinkedSignal([signal]);
    const late = new SelvageError(
      "unavailable",
      `no answer within ${STORE_ANSWER_MAX_MS / 1000} s`,
    );
    link.setDeadline(STORE_ANSWER_MAX_MS, late);
    return store.acquire(request, link.signal).finally(() => link.dispose());
  }

  /** Ends early when `woken` is aborted, but not at once: many may be woken together. */
  async #waitToAsk(delay_ms: number, signal: AbortSignal, woken: AbortSignal): Promise<void> {
    const least_ms = Math.min(delay_ms, RETRY_FIRST_MS);
    await pause(least_ms, signal);
    const link = new LinkedSignal([signal, woken]);
    await pause(delay_ms - least_ms, link.signal);
    link.dispose();
  }

  /** Takes a sign of life of the store, and what has changed there: waiting may have an end. */
  noteStoreSign(changes: readonly LeaseChange[]): void {
    const isFreed = this.#waitsFor === "subnet" && changes.some(({ type }) => type === "delete");
    if (this.#waitsFor === "store" || isFreed) this.#wakeUp();
  }

  #nextAsk_ms(): number {
    return performance.now() + this.#unseenBackoff.next_ms();
  }

  /** Whether what a watch shows of our subnets is ours. */
  #isShown(shown: Lease | undefined): boolean {
    return shown !== undefined && this.isOwn(shown);
  }

  /** Looks for our own lease in what a watch has shown so far. */
  observe(table: LeaseTable): void {
    this.#seen = table;
    if (this.#lease === null) return;
    const shown = table.getBySubnets(this.#lease.subnets);
    if (shown === undefined) {
      this.#taker = null;
      if (this.#mustShow) this.#lose(null);
    } else if (!this.#isShown(shown)) {
      this.#lose(shown.publicAddresses.join(", "));
    } else {
      this.#mustShow = true;
      this.#askAt_ms = Infinity;
      // A reservation may have been made of it: that needs no renewal.
      if (shown.expiry_ms === null && this.#lease.expiry_ms !== null) {
        this.#take({ ...this.#lease, expiry_ms: null });
      }
      if (this.#rival.note(shown, [this.#published, this.#attributes])) this.#wakeUp();
    }
  }

  #lose(taker: string | null): void {
    this.#lostSince_ms ??= this.#clock.steady_ms();
    this.#taker = taker;
    this.#lost.abort();
  }

  /** Two hosts that forward for one subnet would take each other's packets. */
  async #stopServing(reason: string): Promise<void> {
    if (this.#isNone) return;
    this.#isNone = true;
    await this.#options.onNone?.(reason);
  }

  #wakeUp(): void {
    const before = this.#wake;
    this.#wake = new AbortController();
    before.abort();
  }

  /**
   * Keeps the lease until the signal is aborted. `onMoved` is called, and awaited, when only other
   * subnets could be had, and with the same after `onNone`; what it throws ends the keeping.
   */
  async keep(signal: AbortSignal, onMoved: (lease: Lease) => Promise<void>): Promise<void> {
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    while (!signal.aborted) {
      if (this.#lost.signal.aborted || !this.#isConfirmed) await this.#reacquire(signal, onMoved);
      else if (this.#isDue()) await this.#renew(signal, backoff);
      else if (this.#rival.isThere) await this.#contend(signal, backoff);
      else await this.#sleep(this.#untilDue_ms(), signal);
    }
  }

  #untilDue_ms(): number {
    const due_ms = this.#hasEnd ? this.#renewAt_ms - this.#clock.steady_ms() : Infinity;
    const left_ms = Math.min(due_ms, this.#askAt_ms - performance.now());
    return Math.min(Math.max(left_ms, 0), CLOCK_CHECK_MS);
  }

  /** Sleeps, unless the lease is lost meanwhile. */
  async #sleep(delay_ms: number, signal: AbortSignal): Promise<void> {
    const link = new LinkedSignal([signal, this.#lost.signal, this.#wake.signal]);
    await pause(delay_ms, link.signal);
    link.dispose();
  }

  async #renew(signal: AbortSignal, backoff: Backoff): Promise<void> {
    const attributes = this.#attributes;
    const renewed = { ...this.#lease!, ...attributes };
    try {
      const { store } = this.#options;
      const lease = this.#take(await store.renew(renewed, signal, this.#published));
      this.#published = attributes;
      if (this.#askAt_ms < Infinity) this.#askAt_ms = this.#nextAsk_ms();
      this.#log.info`renewed ${leaseKey(lease.subnets)}`;
      backoff.reset();
    } catch (error) {
      if (signal.aborted) return;
      if (hasCode(error, "lease_lost")) {
        this.#seen = LeaseTable.EMPTY;
        return this.#lose(null);
      }
      this.#log.warning`cannot renew the lease: ${errorText(error)}`;
      await this.#sleep(backoff.next_ms(), signal);
    }
  }

  /**
   * Says again what is true of us, if another's word still stands after a while: it may have been
   * our own of before, that came late. The delays grow, since the other may do the same.
   */
  async #contend(signal: AbortSignal, backoff: Backoff): Promise<void> {
    if (!this.#rival.isKnown) this.#rivalBackoff.reset();
    const link = new LinkedSignal([signal, this.#lost.signal]);
    await pause(this.#rivalBackoff.next_ms(), link.signal);
    const isOver = link.signal.aborted || !this.#rival.isThere;
    link.dispose();
    if (isOver) return;
    if (this.#rival.confirm()) this.#log.warning`${this.rivalProblem}`;
    await this.#renew(signal, backoff);
  }

  async #reacquire(signal: AbortSignal, onMoved: (lease: Lease) => Promise<void>): Promise<void> {
    const before = leaseKey(this.#lease!.subnets);
    const isLost = this.#isConfirmed;
    if (isLost) this.#log.warning`lease ${before} was revoked; trying for the same subnet`;
    try {
      const lease = await this.acquire(this.#lease!.subnets, signal);
      const after = leaseKey(lease.subnets);
      if (after === before) {
        this.#log.info`${isLost ? "holding" : "the store confirms"} ${after}${
          isLost ? " again" : ""
        }`;
      } else if (!isReservedMove(before, lease)) {
        this.#log.warning`the store did not give ${before} again; this host moves to ${after}`;
      }
      if (after !== before || this.#wasNone) await onMoved(lease);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Logs why this host gets other subnets than before, if a reservation is the reason. */
  #logReservedMove(previousSubnets: readonly IpPrefix[], lease: Lease): void {
    if (previousSubnets.length === 0 || !isReservedMove(leaseKey(previousSubnets), lease)) return;
    const [before, after] = [leaseKey(previousSubnets), leaseKey(lease.subnets)];
    const host = `this host (public address ${lease.publicAddresses.join(", ")})`;
    this.#log.warning`${after} is reserved for ${host}, so it moves from ${before} to ${after}`;
  }
}
