/** The watch of the leases as a stream of JSON lines, pulled by the client's reading. */
import { SelvageError } from "../errors.ts";
import type { ChangeLine } from "./views.ts";

/** Of a stream of JSON lines. */
export const WATCH_MEDIA_TYPE = "application/x-ndjson";

/** How many clients may watch at once, unless it is said otherwise. */
export const WATCHER_COUNT_MAX = 64;

/** How long a client may leave what it was sent unread before its stream is cut. */
export const WATCHER_STALL_MS = 30_000;

/** Counts the watchers, so that they stay within their bound. */
export class WatcherPool {
  #taken = 0;

  constructor(readonly count_max: number = WATCHER_COUNT_MAX) {}

  get count(): number {
    return this.#taken;
  }

  /** Takes a place; the result gives it back, once. Throws `unavailable` when all are taken. */
  take(): () => void {
    if (this.#taken >= this.count_max) {
      throw new SelvageError("unavailable", `${this.count_max} clients watch already`, {
        hint: "Try again when one of them has ended, or read /v1/leases now and then.",
      });
    }
    this.#taken++;
    let held = true;
    return () => {
      if (held) this.#taken--;
      held = false;
    };
  }
}

export interface WatchStreamOptions {
  /** Ends the stream, tidily, when one of them is aborted. */
  readonly signals: readonly AbortSignal[];
  /** Called once, when the stream has ended in whatever way. */
  readonly onEnd: () => void;
  readonly stall_ms?: number;
}

/**
 * What `watch` yields, a line each. It is asked for the next only when the client has taken the
 * last one; a client that stops reading loses its stream after `stall_ms`.
 */
export function watchStream(
  watch: (signal: AbortSignal) => AsyncIterable<ChangeLine>,
  options: WatchStreamOptions,
): ReadableStream<Uint8Array> {
  const ended = new AbortController();
  const encoder = new TextEncoder();
  let stall: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    clearTimeout(stall);
    for (const signal of options.signals) signal.removeEventListener("abort", end);
    if (ended.signal.aborted) return;
    ended.abort();
    options.onEnd();
  };
  for (const signal of options.signals) signal.addEventListener("abort", end);
  if (options.signals.some((signal) => signal.aborted)) end();
  let lines: AsyncIterator<ChangeLine>;
  try {
    lines = watch(ended.signal)[Symbol.asyncIterator]();
  } catch (error) {
    end();
    throw error;
  }
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      clearTimeout(stall);
      try {
        const next = await lines.next();
        if (next.done === true || ended.signal.aborted) {
          end();
          controller.close();
          return;
        }
        controller.enqueue(encoder.encode(`${JSON.stringify(next.value)}\n`));
        stall = setTimeout(() => {
          end();
          controller.error(new SelvageError("unavailable", "the watching client stopped reading"));
        }, options.stall_ms ?? WATCHER_STALL_MS);
      } catch (error) {
        end();
        controller.error(error);
      }
    },
    cancel() {
      end();
    },
  }, { highWaterMark: 0 });
}
