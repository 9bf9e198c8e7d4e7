/**
 * The lease store of the host that keeps the registry: SQLite on its own disk. A
 * cluster of one host needs nothing else; the registry server shares it with hosts that joined.
 *
 * Every change is on the disk before anyone gets to know it. SQLite's calls block for a fraction of
 * a millisecond, so one call is one transaction and calls never interleave.
 */
import { randomBytes } from "node:crypto";
import { Bell } from "../bell.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { ConfigNews } from "../config/config_news.ts";
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { SelvageError } from "../errors.ts";
import { allocate } from "../lease/allocator.ts";
import {
  knownExpiry_ms,
  type Lease,
  type LeaseAttributes,
  type LeaseChange,
  leaseKey,
  type LeaseRequest,
  parseLeaseKey,
  sameNode,
} from "../lease/lease.ts";
import { diffTables, LeaseTable, putChange } from "../lease/lease_table.ts";
import { checkAttributes, lostError, planReservation } from "../lease/lease_rules.ts";
import type { IpPrefix } from "../net/ip.ts";
import { type Clock, ExpiryRule, ExpiryTimer, SYSTEM_CLOCK } from "./expiry.ts";
import { closedError } from "./closed_error.ts";
import type { RegistryRows } from "./registry_database.ts";
import { type ChangesSince, RegistryState, type Snapshot } from "./registry_state.ts";
import {
  type ForcedReservation,
  LEASE_TTL_MS,
  type LeaseHolder,
  type LeaseStore,
  type StoreState,
} from "./store.ts";

export { registryPath } from "./registry_database.ts";

/** How long to wait before the next try after the disk refused to delete ended leases. */
const EXPIRY_RETRY_MS = 1_000;

/** Of all but the path, the defaults are those of a real registry. */
export interface EmbeddedStoreOptions {
  /** The file, or ":memory:". */
  readonly path: string;
  /** How long a lease is good for. */
  readonly ttl_ms?: number;
  readonly clock?: Clock;
  /** Gives numbers in [0, 1); chooses free subnets. */
  readonly random?: () => number;
  /** How many events are kept for watchers that come back. */
  readonly eventCountMax?: number;
}

/** A lease store over one SQLite file; a file is open in one store of one process at a time. */
export class EmbeddedStore implements LeaseStore {
  readonly #state: RegistryState;
  readonly #ttl_ms: number;
  readonly #random: () => number;
  readonly #rule: ExpiryRule;
  readonly #timer: ExpiryTimer;
  /** No lease ends before this. */
  #firstEnd_ms = Infinity;
  /** No lease is deleted or shortened before this, by the clock that never jumps. */
  #expiryRetry_ms = -Infinity;
  readonly #opening = randomBytes(8).toString("hex");
  #isClosed = false;

  /** Opens or makes the registry. Throws as `openSqlite`, or if its configuration is damaged. */
  constructor(options: EmbeddedStoreOptions) {
    this.#ttl_ms = options.ttl_ms ?? LEASE_TTL_MS;
    this.#random = options.random ?? Math.random;
    this.#rule = new ExpiryRule(options.clock ?? SYSTEM_CLOCK);
    this.#timer = new ExpiryTimer(() => this.#onTimer());
    this.#state = new RegistryState(options.path, options.eventCountMax ?? 10_000);
    this.#expectEnds(this.#state.table.leases);
  }

  /** Random, made with the file: revisions of another registry mean nothing here. */
  get registryId(): string {
    return this.#state.registryId;
  }

  /**
   * Names the registry as it is open now, with a part that is random at each opening. A revision
   * means something in one incarnation only: a file that was restored from a backup counts other
   * changes under numbers that watchers have seen.
   */
  get incarnation(): string {
    return `${this.registryId}.${this.#opening}`;
  }

  /** All that a backup keeps, as it is stored. */
  exportRows(): RegistryRows {
    return this.#enter().exportRows();
  }

  // Every call begins here: the store is open, what it knows is true, nothing has run out.
  #enter(signal?: AbortSignal): RegistryState {
    signal?.throwIfAborted();
    if (this.#isClosed) throw closedError();
    this.#state.settle();
    try {
      this.expire();
    } catch {
      // The leases live on until the disk takes their deletion; what is read is right otherwise,
      // and a change fails by itself.
      this.#state.settle();
    }
    return this.#state;
  }

  #apply(changes: readonly LeaseChange[]): void {
    this.#state.apply(changes);
    this.#expectEnds(changes.flatMap((change) => change.type === "put" ? [change.lease] : []));
  }

  /** Sees to it that the timer fires when the first of these ends. */
  #expectEnds(leases: readonly Lease[]): void {
    for (const lease of leases) {
      const expiry_ms = knownExpiry_ms(lease);
      if (expiry_ms === null) continue;
      this.#firstEnd_ms = Math.min(this.#firstEnd_ms, this.#rule.end_ms(expiry_ms));
    }
    this.#timer.set(this.#firstEnd_ms, this.#rule.now_ms());
  }

  /** Deletes the leases that have run out. The timer calls it, and so does every other call. */
  expire(): void {
    const now_ms = this.#rule.now_ms();
    if (this.#isClosed) return;
    const isDue = this.#rule.wasSetBack || now_ms >= this.#firstEnd_ms;
    if (!isDue || performance.now() < this.#expiryRetry_ms) return;
    this.#expiryRetry_ms = performance.now() + EXPIRY_RETRY_MS;
    if (this.#rule.wasSetBack) this.#shorten(now_ms + this.#ttl_ms);
    const gone = this.#state.table.leases.filter((lease) => {
      const expiry_ms = knownExpiry_ms(lease);
      return expiry_ms !== null && this.#rule.end_ms(expiry_ms) <= now_ms;
    });
    this.#state.apply(gone.map((lease) => ({ type: "delete", key: leaseKey(lease.subnets) })));
    this.#expiryRetry_ms = -Infinity;
    this.#firstEnd_ms = Infinity;
    this.#expectEnds(this.#state.table.leases);
  }

  /**
   * Looks whether the file takes changes, and repairs what can be repaired. To be called every few
   * seconds; `state` says what fails.
   */
  check(): void {
    if (this.#isClosed) return;
    this.#state.check();
    try {
      this.#state.settle();
    } catch {
      // `state` says it.
    }
  }

  /** Has no lease end after `end_ms`: the clock was ahead when such a lease was given. */
  #shorten(end_ms: number): void {
    const late = this.#state.table.leases.filter((lease) => (lease.expiry_ms ?? 0) > end_ms);
    this.#state.apply(late.map((lease) => putChange({ ...lease, expiry_ms: end_ms })));
    this.#rule.settleSetBack();
    this.#firstEnd_ms = Infinity;
    this.#timer.clear();
    this.#expectEnds(this.#state.table.leases);
  }

  #onTimer(): void {
    try {
      this.#enter();
    } catch {
      // `state` tells it. The leases live on until the disk takes their deletion.
    }
    if (!this.#isClosed) this.#timer.set(this.#firstEnd_ms, this.#rule.now_ms());
  }

  /** Throws `config_missing` while there is none. */
  #config(): NetworkConfig {
    const { config } = this.#state;
    if (config !== null) return config;
    throw new SelvageError("config_missing", "the registry holds no network configuration", {
      hint: "Give one to the host that keeps the registry: selvage run --net-config FILE.",
    });
  }

  #newExpiry_ms(): number {
    return this.#rule.now_ms() + this.#ttl_ms;
  }

  // deno-lint-ignore require-await
  async readConfig(signal?: AbortSignal): Promise<NetworkConfig> {
    this.#enter(signal);
    return this.#config();
  }

  /** The network's configuration; null while there is none. */
  get config(): NetworkConfig | null {
    return this.#state.config;
  }

  /** What the configuration file said when it was applied last; null: none was applied. */
  get configFileText(): string | null {
    return this.#state.configFileText;
  }

  /**
   * Checks the text and makes it the network's configuration; leases that it does not allow stay
   * until their nodes acquire again. `isFile`: the text is that of the configuration file, which is
   * remembered. False: it says what the old one says. Throws `invalid_argument`, which names
   * `where`.
   */
  setConfig(text: string, where: string, { isFile = false } = {}): boolean {
    const config = parseNetworkConfig(text, where);
    const { config: old, configFileText } = this.#enter();
    if (old !== null && formatNetworkConfig(old) === formatNetworkConfig(config)) {
      if (isFile && configFileText !== text) this.#state.rememberConfigFile(text);
      return false;
    }
    this.#state.setConfig(config, isFile ? text : null);
    return true;
  }

  /** Remembers what the configuration file says, without applying it. */
  rememberConfigFile(text: string): void {
    this.#enter().rememberConfigFile(text);
  }

  // deno-lint-ignore require-await
  async acquire(request: LeaseRequest, signal?: AbortSignal): Promise<Lease> {
    const { table } = this.#enter(signal);
    const config = this.#config();
    checkAttributes(request.attributes, config);
    const { subnets, held, deletedKeys } = allocate(
      config,
      table.leases,
      request,
      this.#random,
    );
    const expiry_ms = held?.expiry_ms === null ? null : this.#newExpiry_ms();
    const lease: Lease = { ...request.attributes, subnets, expiry_ms };
    const deletes = deletedKeys.map((key): LeaseChange => ({ type: "delete", key }));
    this.#apply([...deletes, putChange(lease)]);
    return lease;
  }

  // deno-lint-ignore require-await
  async renew(lease: Lease, signal?: AbortSignal, holder: LeaseHolder = lease): Promise<Lease> {
    const { table } = this.#enter(signal);
    checkAttributes(lease, this.#config());
    const held = table.getBySubnets(lease.subnets);
    if (held === undefined || !(sameNode(held, lease) || sameNode(held, holder))) {
      const who = held === undefined ? "nobody" : held.publicAddresses.join(", ");
      throw lostError(lease.subnets, who);
    }
    const expiry_ms = held.expiry_ms === null ? null : this.#newExpiry_ms();
    const renewed: Lease = { ...lease, expiry_ms };
    this.#apply([putChange(renewed)]);
    return renewed;
  }

  // deno-lint-ignore require-await
  async release(lease: Lease, signal?: AbortSignal): Promise<void> {
    const { table } = this.#enter(signal);
    const held = table.getBySubnets(lease.subnets);
    if (held === undefined || held.expiry_ms === null || !sameNode(held, lease)) return;
    this.#apply([{ type: "delete", key: leaseKey(lease.subnets) }]);
  }

  // deno-lint-ignore require-await
  async list(signal?: AbortSignal): Promise<Lease[]> {
    return [...this.#enter(signal).table.leases];
  }

  #reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    isForced: boolean,
    signal: AbortSignal | undefined,
  ): ForcedReservation {
    const { table } = this.#enter(signal);
    const plan = planReservation(this.#config(), table.leases, subnets, attributes, isForced);
    const lease: Lease = { ...plan.held ?? attributes, subnets, expiry_ms: null };
    const deletes = plan.replaced.map((one): LeaseChange => {
      return { type: "delete", key: leaseKey(one.subnets) };
    });
    this.#apply([...deletes, putChange(lease)]);
    return { lease, replaced: plan.replaced };
  }

  // deno-lint-ignore require-await
  async reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<Lease> {
    return this.#reserve(subnets, attributes, false, signal).lease;
  }

  // deno-lint-ignore require-await
  async reserveByForce(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<ForcedReservation> {
    return this.#reserve(subnets, attributes, true, signal);
  }

  // deno-lint-ignore require-await
  async revoke(key: string, signal?: AbortSignal): Promise<void> {
    const { table } = this.#enter(signal);
    const subnets = parseLeaseKey(key);
    if (table.getBySubnets(subnets) === undefined) {
      throw new SelvageError("not_found", `there is no lease ${leaseKey(subnets)}`);
    }
    this.#apply([{ type: "delete", key: leaseKey(subnets) }]);
  }

  /** A bell that rings at every change, at the close and when the signal is aborted. */
  #changes(signal: AbortSignal): { readonly bell: Bell; stop(): void } {
    const bell = new Bell();
    const ring = () => bell.ring();
    const forget = this.#state.onChange(ring);
    signal.addEventListener("abort", ring);
    const stop = () => {
      forget();
      signal.removeEventListener("abort", ring);
    };
    return { bell, stop };
  }

  async *watch(signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    let told = LeaseTable.EMPTY;
    let revision: number | null = null;
    const { bell, stop } = this.#changes(signal);
    try {
      while (!signal.aborted) {
        if (this.#isClosed) throw closedError();
        const { rung } = bell;
        const next: ChangesSince | null = revision === null
          ? null
          : this.#state.changesSince(revision);
        if (next === null) {
          const changes = diffTables(told, this.#state.table);
          const isFirst: boolean = revision === null;
          told = this.#state.table;
          revision = this.#state.revision;
          if (isFirst || changes.length > 0) yield changes;
        } else if (next.changes.length > 0) {
          revision = next.revision;
          told = revision === this.#state.revision ? this.#state.table : told.apply(next.changes);
          yield next.changes;
        } else if (next.revision > revision!) revision = next.revision;
        else await rung;
      }
    } finally {
      stop();
    }
  }

  async *watchConfig(signal: AbortSignal, known?: NetworkConfig): AsyncGenerator<NetworkConfig> {
    const news = new ConfigNews(known);
    const { bell, stop } = this.#changes(signal);
    try {
      while (!signal.aborted) {
        if (this.#isClosed) throw closedError();
        const { rung } = bell;
        const { config } = this.#state;
        if (config !== null && news.take(config)) yield config;
        else await rung;
      }
    } finally {
      stop();
    }
  }

  /** It has no connections. */
  reconnect(): void {}

  state(): StoreState {
    const { path, health, unreadableCount, unreadable } = this.#state;
    const connected = health.connected && !this.#isClosed;
    return { kind: "embedded", location: path, ...health, connected, unreadableCount, unreadable };
  }

  // deno-lint-ignore require-await
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer.clear();
    this.#state.close();
  }

  /** All leases and their revision, for the registry server. */
  snapshot(): Snapshot {
    const { table, revision } = this.#enter();
    return { revision, leases: table.leases };
  }

  /** The next changes after a revision; null: list anew. For the registry server. */
  changesSince(revision: number): ChangesSince | null {
    return this.#enter().changesSince(revision);
  }

  /** Calls `listener` after every change and at the close. Gives the function that ends it. */
  onChange(listener: () => void): () => void {
    return this.#state.onChange(listener);
  }
}
