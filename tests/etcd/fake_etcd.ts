/**
 * etcd in memory: revisions, leases by a test's clock, transactions, watches from a revision,
 * compaction. Failures come on demand, and calls in an order that a seed decides.
 */
import { AmbiguousError, CompactedError } from "../../src/etcd/client/error.ts";
import type {
  Compare,
  Etcd,
  EtcdLease,
  KeyEvent,
  KeyValue,
  Operation,
  TransactionResult,
} from "../../src/etcd/client/kv.ts";
import { SelvageError } from "../../src/errors.ts";

/** The calls of `Etcd`, by name. */
export type CallName = "list" | "get" | "transact" | "grantLease" | "revokeLease" | "findLease";

/**
 * What becomes of a call: "lost" is answered `unavailable` and not done; a write that is "unsent"
 * or "unanswered" is answered `AmbiguousError`, and was done in the second case alone; "late" is
 * done when `FakeServer.deliverLate` is called.
 */
export type Fate = "lost" | "unsent" | "unanswered" | "late";

/** Decides each call's fate; null: it is done and answered. */
export type Fault = (call: CallName, args: readonly unknown[]) => Fate | null;

interface Grant {
  readonly ttl_s: number;
  readonly end_ms: number;
}

function unavailable(what: string): SelvageError {
  return new SelvageError("unavailable", `etcd at fake:2379: ${what}`);
}

/** The servers' side: what all clients share. */
export class FakeServer {
  readonly #entries = new Map<string, KeyValue>();
  readonly #grants = new Map<bigint, Grant>();
  /** All events since the last compaction, by revision. */
  #history: { readonly revision: bigint; readonly events: KeyEvent[] }[] = [];
  #listeners = new Set<() => void>();
  #late: (() => void)[] = [];
  #lastGrant = 0n;
  #streamEpoch = 0;
  revision = 1n;
  /** Below this nothing is known any more. */
  compacted = 0n;
  /** While true no call is answered and no watch lives. */
  isDown = false;
  fault: Fault = () => null;
  /** Called before each call; tests let calls wait here for each other. */
  turn: () => Promise<void> = () => Promise.resolve();
  /** How many revisions a watch gives in one batch at most. */
  batchRevisionsMax: () => number = () => 100;

  /** @param now_ms By it leases end. */
  constructor(readonly now_ms: () => number = () => Date.now()) {}

  /** A client of its own, with its own count; `others` are endpoints too, of other clusters. */
  client(others: readonly FakeServer[] = []): FakeEtcd {
    return new FakeEtcd([this, ...others]);
  }

  /** Ends the leases whose time has come; every call begins so. */
  expire(): void {
    const now_ms = this.now_ms();
    for (const [id, grant] of [...this.#grants]) if (grant.end_ms <= now_ms) this.revoke(id);
  }

  get grantIds(): bigint[] {
    this.expire();
    return [...this.#grants.keys()];
  }

  /** All keys, in their order. */
  get entries(): KeyValue[] {
    this.expire();
    return [...this.#entries.values()].sort((a, b) => a.key < b.key ? -1 : 1);
  }

  entry(key: string): KeyValue | null {
    this.expire();
    return this.#entries.get(key) ?? null;
  }

  /** Writes as a foreign program would, without a client. */
  put(key: string, value: string, leaseId = 0n): void {
    this.apply([{ put: key, value, leaseId }]);
  }

  delete(key: string): void {
    this.apply([{ delete: key }]);
  }

  grant(ttl_s: number): bigint {
    const id = ++this.#lastGrant;
    this.#grants.set(id, { ttl_s, end_ms: this.now_ms() + ttl_s * 1000 });
    return id;
  }

  findLease(id: bigint): EtcdLease | null {
    const grant = this.#grants.get(id);
    if (grant === undefined) return null;
    const keyCount = [...this.#entries.values()].filter(({ leaseId }) => leaseId === id).length;
    return { ttl_s: Math.ceil((grant.end_ms - this.now_ms()) / 1000), keyCount };
  }

  revoke(id: bigint): void {
    if (!this.#grants.delete(id)) return;
    const keys = [...this.#entries.values()].filter((entry) => entry.leaseId === id);
    this.apply(keys.map(({ key }) => ({ delete: key })));
  }

  /** Does the operations as one revision, and gives what they found. */
  apply(operations: readonly Operation[]): KeyValue[][] {
    const events: KeyEvent[] = [];
    const next = this.revision + 1n;
    const puts = operations.flatMap((one) => "put" in one ? [one] : []);
    if (new Set(puts.map((one) => one.put)).size < puts.length) {
      throw new SelvageError("invalid_argument", "duplicate key given in txn request");
    }
    const orphan = puts.find(({ leaseId }) => leaseId !== 0n && !this.#grants.has(leaseId));
    if (orphan !== undefined) {
      throw new SelvageError("not_found", "etcdserver: requested lease not found");
    }
    const found = operations.map((one) => this.#step(one, next, events));
    if (events.length > 0) {
      this.revision = next;
      this.#history.push({ revision: next, events });
      this.#tell();
    }
    return found;
  }

  #step(one: Operation, revision: bigint, events: KeyEvent[]): KeyValue[] {
    if ("get" in one) {
      const entry = this.#entries.get(one.get);
      return entry === undefined ? [] : [entry];
    }
    if ("list" in one) return this.under(one.list);
    if ("delete" in one) {
      if (!this.#entries.delete(one.delete)) return [];
      const gone = { key: one.delete, value: "", createRevision: 0n, version: 0n, leaseId: 0n };
      events.push({ type: "delete", entry: { ...gone, modRevision: revision } });
      return [];
    }
    const before = this.#entries.get(one.put);
    const entry: KeyValue = {
      key: one.put,
      value: one.value,
      createRevision: before?.createRevision ?? revision,
      modRevision: revision,
      version: (before?.version ?? 0n) + 1n,
      leaseId: one.leaseId,
    };
    this.#entries.set(one.put, entry);
    events.push({ type: "put", entry });
    return [];
  }

  under(prefix: string): KeyValue[] {
    return this.entries.filter(({ key }) => key.startsWith(prefix));
  }

  holds(compare: Compare): boolean {
    const entry = this.#entries.get(compare.key);
    if (compare.target === "value") return entry?.value === compare.is;
    const { target, is } = compare;
    const name = target === "lease" ? "leaseId" : target;
    return (entry?.[name] ?? 0n) === is;
  }

  /** Forgets all events before this revision. */
  compact(revision = this.revision): void {
    this.compacted = revision;
    this.#history = this.#history.filter((one) => one.revision >= revision);
  }

  /** As after the loss of all data: another etcd answers at the same place. */
  wipe(): void {
    this.#entries.clear();
    this.#grants.clear();
    this.#history = [];
    this.revision = 1n;
    this.compacted = 0n;
    this.breakWatches();
  }

  /** Every watch that runs ends with an error. */
  breakWatches(): void {
    this.#streamEpoch++;
    this.#tell();
  }

  setDown(isDown: boolean): void {
    this.isDown = isDown;
    this.#tell();
  }

  get streamEpoch(): number {
    return this.#streamEpoch;
  }

  /** How many watches run. */
  get streamCount(): number {
    return this.#listeners.size;
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  addLate(work: () => void): void {
    this.#late.push(work);
  }

  /** Does what was sent and is under way still; what is refused now is so without a word. */
  deliverLate(): void {
    for (const work of this.#late.splice(0)) {
      try {
        work();
      } catch {
        // Its sender does not wait for the answer any more.
      }
    }
  }

  /** The events from a revision on, of the keys with the prefix. */
  eventsFrom(prefix: string, from: bigint): { next: bigint; events: KeyEvent[] } | null {
    const due = this.#history.filter((one) => one.revision >= from);
    if (due.length === 0) return null;
    const taken = due.slice(0, Math.max(this.batchRevisionsMax(), 1));
    const events = taken.flatMap((one) => one.events)
      .filter(({ entry }) => entry.key.startsWith(prefix));
    return { next: taken.at(-1)!.revision + 1n, events };
  }
}

/** One client of the servers. */
export class FakeEtcd implements Etcd {
  callCount = 0;
  /** Every call by its name, streams as "watch". */
  readonly calls: string[] = [];
  #isClosed = false;
  readonly #onClose = new Set<() => void>();
  /** While true this client alone reaches nobody. */
  isCutOff = false;

  #current = 0;

  constructor(readonly servers: readonly FakeServer[]) {}

  /** The one in use, which is another as soon as it is down. */
  get server(): FakeServer {
    const isDown = this.servers[this.#current]!.isDown;
    const index = isDown ? this.servers.findIndex((server) => !server.isDown) : -1;
    if (index !== -1) this.#current = index;
    return this.servers[this.#current]!;
  }

  get location(): string {
    return `fake:${2379 + this.#current}`;
  }

  #count(name: string): void {
    this.callCount++;
    this.calls.push(name);
  }

  #check(signal: AbortSignal | undefined, server = this.server): void {
    signal?.throwIfAborted();
    if (this.#isClosed) throw unavailable("the client was closed");
    if (server.isDown || this.isCutOff) throw unavailable("connection refused");
  }

  async #call<T>(
    name: CallName,
    args: readonly unknown[],
    signal: AbortSignal | undefined,
    work: () => T,
  ): Promise<T> {
    this.#count(name);
    signal?.throwIfAborted();
    await this.server.turn();
    this.#check(signal);
    this.server.expire();
    const fate = this.server.fault(name, args);
    if (fate === "lost") throw unavailable("connection reset");
    if (fate === "late") this.server.addLate(work);
    if (fate === "unanswered") work();
    if (fate !== null) throw new AmbiguousError("etcd at fake:2379: no answer in 5 s");
    const result = work();
    await Promise.resolve();
    signal?.throwIfAborted();
    return result;
  }

  list(prefix: string, signal?: AbortSignal) {
    const { server } = this;
    return this.#call("list", [prefix], signal, () => {
      return { revision: server.revision, entries: server.under(prefix) };
    });
  }

  get(key: string, signal?: AbortSignal) {
    const { server } = this;
    return this.#call("get", [key], signal, () => {
      return { revision: server.revision, entry: server.entry(key) };
    });
  }

  transact(
    compares: readonly Compare[],
    then: readonly Operation[],
    otherwise: readonly Operation[],
    signal?: AbortSignal,
  ): Promise<TransactionResult> {
    const { server } = this;
    return this.#call("transact", [compares, then, otherwise], signal, () => {
      const succeeded = compares.every((one) => server.holds(one));
      const found = server.apply(succeeded ? then : otherwise);
      return { succeeded, revision: server.revision, found };
    });
  }

  grantLease(ttl_s: number, signal?: AbortSignal) {
    return this.#call("grantLease", [ttl_s], signal, () => {
      return { id: this.server.grant(ttl_s), ttl_s };
    });
  }

  revokeLease(id: bigint, signal?: AbortSignal): Promise<void> {
    return this.#call("revokeLease", [id], signal, () => this.server.revoke(id));
  }

  findLease(id: bigint, signal?: AbortSignal): Promise<EtcdLease | null> {
    return this.#call("findLease", [id], signal, () => this.server.findLease(id));
  }

  async *watch(
    prefix: string,
    fromRevision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<readonly KeyEvent[]> {
    this.#count("watch");
    const { server } = this;
    if (signal.aborted) return;
    await server.turn();
    const epoch = server.streamEpoch;
    let wake = () => {};
    const ring = () => wake();
    const forget = server.onChange(ring);
    signal.addEventListener("abort", ring);
    this.#onClose.add(ring);
    let next = fromRevision;
    try {
      while (!signal.aborted) {
        const changed = new Promise<void>((resolve) => wake = resolve);
        this.#check(undefined, server);
        if (server.streamEpoch !== epoch) throw unavailable("the stream broke");
        if (next < server.compacted) throw new CompactedError(server.compacted);
        const batch = server.eventsFrom(prefix, next);
        if (batch === null) {
          await changed;
          continue;
        }
        next = batch.next;
        await server.turn();
        if (!signal.aborted) yield batch.events;
      }
    } finally {
      forget();
      signal.removeEventListener("abort", ring);
      this.#onClose.delete(ring);
    }
  }

  /** Its watches die, and its calls fail until it is let back. */
  cutOff(isCutOff: boolean): void {
    this.isCutOff = isCutOff;
    for (const ring of [...this.#onClose]) ring();
  }

  tryElsewhere(): boolean {
    this.calls.push("tryElsewhere");
    this.#current = (this.#current + 1) % this.servers.length;
    return this.servers.length > 1;
  }

  /** It has no connections. */
  reconnect(): void {}

  close(): void {
    this.#isClosed = true;
    for (const ring of [...this.#onClose]) ring();
  }
}

/**
 * Lets calls through one at a time, in an order that `random` decides among those that wait: what
 * happens when many clients talk at the same instant.
 */
export function interleave(random: () => number): () => Promise<void> {
  const waiting: (() => void)[] = [];
  let isRunning = false;
  const pump = () => {
    const [next] = waiting.splice(Math.floor(random() * waiting.length), 1);
    next?.();
    if (waiting.length > 0) setImmediate(pump);
    else isRunning = false;
  };
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve);
      if (!isRunning) setImmediate(pump);
      isRunning = true;
    });
}
