/** One watch: a stream of its own, from its opening to its first failure. */
import { encoded, type RawStream, seconds } from "./connection.ts";
import type { Attempt } from "./dispatcher.ts";
import { CompactedError } from "./error.ts";
import { FragmentJoiner } from "./fragment_joiner.ts";
import { WatchCreateRequest, type WatchRequest, type WatchResponse } from "./generated/rpc.ts";
import type { KeyEvent } from "./kv.ts";
import { WATCH } from "./methods.ts";
import { MessageQueue } from "./message_queue.ts";
import { judgeCancelReason, Status, StatusError } from "./status.ts";

export interface WatchTimes {
  /** After so long without a message the server is asked for one. */
  readonly progress_ms: number;
  /** After so long without a message the stream counts as dead. */
  readonly silence_ms: number;
}

export class WatchStream {
  readonly #queue: MessageQueue;
  readonly #joiner = new FragmentJoiner();
  #hasAnsweredProgress = false;
  #isClosed = false;
  /** The store's revision at the member, when the watch was opened. */
  revision = 0n;

  private constructor(
    private readonly stream: RawStream,
    /** By which it was opened. */
    readonly attempt: Attempt,
    private readonly signal: AbortSignal,
  ) {
    this.#queue = new MessageQueue(stream);
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  #onAbort = () => this.close();

  /**
   * Opens a watch of `range` and waits until the server says that it stands. Throws `StatusError`,
   * or an error of ours where the server has refused it.
   */
  static async open(
    attempt: Attempt,
    range: { readonly key: Uint8Array; readonly rangeEnd: Uint8Array },
    fromRevision: bigint,
    signal: AbortSignal,
  ): Promise<WatchStream> {
    signal.throwIfAborted();
    const stream = attempt.connection.stream(WATCH, attempt.metadata);
    const watch = new WatchStream(stream, attempt, signal);
    try {
      await watch.#create(range, fromRevision);
      return watch;
    } catch (error) {
      watch.close();
      signal.throwIfAborted();
      throw error;
    }
  }

  async #create(
    range: { readonly key: Uint8Array; readonly rangeEnd: Uint8Array },
    fromRevision: bigint,
  ): Promise<void> {
    const createRequest = WatchCreateRequest.fromPartial({
      ...range,
      startRevision: fromRevision,
      progressNotify: true,
      fragment: true,
    });
    this.#send({ $case: "createRequest", createRequest });
    const message = await this.#queue.next(this.attempt.timeout_ms);
    if (message === null) throw new StatusError(Status.DEADLINE_EXCEEDED, "");
    const response = decode(message);
    if (response.canceled) {
      // etcd 3.4 says of an expired token that the user may not watch.
      const isDenied = response.cancelReason.includes("permission denied");
      if (isDenied && !this.attempt.isTokenFresh) {
        throw new StatusError(Status.UNAUTHENTICATED, response.cancelReason);
      }
      throw this.#cancelled(response);
    }
    this.revision = response.header?.revision ?? 0n;
  }

  #send(requestUnion: WatchRequest["requestUnion"]): void {
    this.stream.call.write(encoded(WATCH, { requestUnion }));
  }

  #cancelled({ compactRevision, cancelReason }: WatchResponse): Error {
    if (compactRevision !== 0n) return new CompactedError(compactRevision);
    const judgement = judgeCancelReason(cancelReason);
    if (judgement.next === "stop") return judgement.error;
    if (judgement.next === "authenticate") {
      return new StatusError(Status.UNAUTHENTICATED, cancelReason);
    }
    return new StatusError(Status.UNAVAILABLE, cancelReason || "the watch was cancelled");
  }

  /**
   * Batches until the stream ends: it throws then. `probe` asks the endpoint for anything at all,
   * and throws where it does not answer: servers before 3.4, and proxies, do not answer when they
   * are asked for a sign of life on the stream.
   */
  async *batches(
    { progress_ms, silence_ms }: WatchTimes,
    probe: () => Promise<void>,
  ): AsyncGenerator<readonly KeyEvent[]> {
    let heard_ms = performance.now();
    for (;;) {
      const message = await this.#queue.next(progress_ms);
      if (message !== null) {
        const batch = this.#read(decode(message));
        if (batch !== null) yield batch;
        // The reader may have taken its time, while the server was not listened to.
        heard_ms = performance.now();
      } else if (performance.now() - heard_ms < silence_ms) {
        this.#send({ $case: "progressRequest", progressRequest: {} });
      } else if (this.#hasAnsweredProgress) {
        const text = `no sign of life for ${seconds(silence_ms)}`;
        throw new StatusError(Status.UNAVAILABLE, text);
      } else {
        await probe();
        heard_ms = performance.now();
        yield [];
      }
    }
  }

  /** The events of a response; none is a sign of life; null: the rest of it follows. */
  #read(response: WatchResponse): readonly KeyEvent[] | null {
    if (response.canceled) throw this.#cancelled(response);
    if (response.events.length === 0 && !response.fragment) this.#hasAnsweredProgress = true;
    return this.#joiner.add(response);
  }

  /** Ends it on both sides, at any time and as often as one likes. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.signal.removeEventListener("abort", this.#onAbort);
    this.#queue.close();
    this.stream.release();
  }
}

function decode(message: Uint8Array): WatchResponse {
  try {
    return WATCH.answer.decode(message);
  } catch (error) {
    throw new StatusError(Status.INTERNAL, `a message that cannot be read (${String(error)})`);
  }
}
