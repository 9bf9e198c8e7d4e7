/** The client: keys, leases and watches of etcd over gRPC. */
import { hasCode, SelvageError } from "../../errors.ts";
import { LinkedSignal } from "../../net/linked_signal.ts";
import { runUntilClosed } from "../../net/run_until_closed.ts";
import { foundBy, keyAfter, prefixRange, toBytes, toKeyValue, toTxnRequest } from "./calls.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Endpoint } from "./endpoint.ts";
import { CompactedError } from "./error.ts";
import { RangeRequest, type RangeResponse } from "./generated/rpc.ts";
import type {
  Compare,
  Etcd,
  EtcdLease,
  KeyEvent,
  KeyValue,
  Operation,
  TransactionResult,
} from "./kv.ts";
import { FIND_LEASE, GRANT_LEASE, type Method, RANGE, REVOKE_LEASE, TRANSACT } from "./methods.ts";
import { ConnectError, judgeStatus, StatusError } from "./status.ts";
import { WatchStream, type WatchTimes } from "./watch_stream.ts";

/** A list that a compaction overtakes is begun anew, so often. */
const LIST_TRIES_MAX = 3;
/** Pages shrink so when an answer would be too large. */
const PAGE_SHRINKS_BY = 8;

function closedError(): SelvageError {
  return new SelvageError("unavailable", "the etcd client was closed");
}

function brokenWatch({ text }: Endpoint, error: StatusError | ConnectError): SelvageError {
  const judgement = error instanceof StatusError ? judgeStatus(error) : null;
  if (judgement?.next === "stop") return judgement.error;
  const { why, hint } = judgement?.next === "elsewhere"
    ? judgement
    : { why: error.message, hint: "" };
  return new SelvageError("unavailable", `etcd at ${text}: the watch broke: ${why}`, { hint });
}

export class EtcdClient implements Etcd {
  readonly #closing = new AbortController();

  constructor(
    private readonly dispatcher: Dispatcher,
    private readonly pageSize: number,
    private readonly watchTimes: WatchTimes,
  ) {}

  get callCount(): number {
    return this.dispatcher.callCount;
  }

  get location(): string {
    return this.dispatcher.current.text;
  }

  /** Runs `work` with a signal that is the caller's and the client's. */
  #linked<T>(
    signal: AbortSignal | undefined,
    work: (both: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return runUntilClosed(signal, this.#closing.signal, work);
  }

  #call<Request, Answer>(
    method: Method<Request, Answer>,
    message: Request,
    isRepeatable: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    return this.#linked(signal, (both) => {
      return this.dispatcher.run(isRepeatable, both, ({ connection, metadata, timeout_ms }) => {
        return connection.unary(method, message, metadata, timeout_ms, both);
      });
    });
  }

  async list(
    prefix: string,
    signal?: AbortSignal,
  ): Promise<{ revision: bigint; entries: KeyValue[] }> {
    for (let tryCount = 1;; tryCount++) {
      try {
        return await this.#listOnce(prefix, signal);
      } catch (error) {
        if (!(error instanceof CompactedError) || tryCount >= LIST_TRIES_MAX) throw error;
      }
    }
  }

  async #listOnce(
    prefix: string,
    signal: AbortSignal | undefined,
  ): Promise<{ revision: bigint; entries: KeyValue[] }> {
    const range = prefixRange(prefix);
    const entries: KeyValue[] = [];
    let limit = this.pageSize;
    let revision = 0n;
    for (let { key } = range;;) {
      const request = { key, rangeEnd: range.rangeEnd, limit: BigInt(limit), revision };
      const page = await this.#range(RangeRequest.fromPartial(request), signal).catch((error) => {
        if (!hasCode(error, "too_large") || limit === 1) throw error;
        return null;
      });
      if (page === null) {
        limit = Math.max(1, Math.floor(limit / PAGE_SHRINKS_BY));
        continue;
      }
      for (const message of page.kvs) entries.push(toKeyValue(message));
      if (revision === 0n) revision = page.header?.revision ?? 0n;
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { revision, entries };
      key = keyAfter(last.key);
    }
  }

  #range(request: RangeRequest, signal: AbortSignal | undefined): Promise<RangeResponse> {
    return this.#call(RANGE, request, true, signal);
  }

  async get(
    key: string,
    signal?: AbortSignal,
  ): Promise<{ revision: bigint; entry: KeyValue | null }> {
    const answer = await this.#range(RangeRequest.fromPartial({ key: toBytes(key) }), signal);
    const [message] = answer.kvs;
    const entry = message === undefined ? null : toKeyValue(message);
    return { revision: answer.header?.revision ?? 0n, entry };
  }

  async transact(
    compares: readonly Compare[],
    then: readonly Operation[],
    otherwise: readonly Operation[],
    signal?: AbortSignal,
  ): Promise<TransactionResult> {
    const request = toTxnRequest(compares, then, otherwise);
    const isRead = [...then, ...otherwise].every((one) => "get" in one || "list" in one);
    const answer = await this.#call(TRANSACT, request, isRead, signal);
    return {
      succeeded: answer.succeeded,
      revision: answer.header?.revision ?? 0n,
      found: foundBy(answer.responses),
    };
  }

  async grantLease(ttl_s: number, signal?: AbortSignal): Promise<{ id: bigint; ttl_s: number }> {
    const request = { TTL: BigInt(Math.ceil(ttl_s)), ID: 0n };
    const answer = await this.#call(GRANT_LEASE, request, false, signal);
    if (answer.error !== "") {
      throw new SelvageError("unavailable", `etcd grants no lease: ${answer.error}`);
    }
    return { id: answer.ID, ttl_s: Number(answer.TTL) };
  }

  async revokeLease(id: bigint, signal?: AbortSignal): Promise<void> {
    try {
      await this.#call(REVOKE_LEASE, { ID: id }, true, signal);
    } catch (error) {
      if (!hasCode(error, "not_found")) throw error;
    }
  }

  async findLease(id: bigint, signal?: AbortSignal): Promise<EtcdLease | null> {
    const { TTL, keys } = await this.#call(FIND_LEASE, { ID: id, keys: true }, true, signal);
    return TTL < 0n ? null : { ttl_s: Number(TTL), keyCount: keys.length };
  }

  async *watch(
    prefix: string,
    fromRevision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<readonly KeyEvent[]> {
    const closing = this.#closing.signal;
    const link = new LinkedSignal([signal, closing]);
    try {
      yield* this.#watch(prefix, fromRevision, link.signal);
    } catch (error) {
      if (signal.aborted) return;
      if (closing.aborted) throw closedError();
      throw error;
    } finally {
      link.dispose();
    }
  }

  async *#watch(
    prefix: string,
    fromRevision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<readonly KeyEvent[]> {
    signal.throwIfAborted();
    const stream = await this.dispatcher.run(true, signal, (attempt) => {
      return WatchStream.open(attempt, prefixRange(prefix), fromRevision, signal);
    });
    const { connection, reportFailure } = stream.attempt;
    try {
      if (stream.revision < fromRevision - 1n) {
        await this.#checkHistory(prefix, fromRevision, signal);
      }
      yield* stream.batches(this.watchTimes, () => this.dispatcher.probe(connection, signal));
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof StatusError) && !(error instanceof ConnectError)) throw error;
      reportFailure();
      throw brokenWatch(connection.endpoint, error);
    } finally {
      stream.close();
    }
  }

  /**
   * A member may lag behind an answer of another member. If the whole cluster is behind, it was set
   * up anew, and the watch would be silent until the cluster reaches the revision.
   */
  async #checkHistory(prefix: string, fromRevision: bigint, signal: AbortSignal): Promise<void> {
    const { revision } = await this.get(prefix === "" ? "\0" : prefix, signal);
    if (revision < fromRevision - 1n) throw new CompactedError(0n);
  }

  tryElsewhere(): boolean {
    return this.dispatcher.tryElsewhere();
  }

  reconnect(): void {
    this.dispatcher.reconnect();
  }

  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(closedError());
    this.dispatcher.close();
  }
}
