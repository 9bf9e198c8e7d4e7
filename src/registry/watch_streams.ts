/**
 * The registry's watch streams. Each client pulls: it is sent the next changes after the revision
 * it has when it has read the last ones, so no stream has a queue that could grow. A client that
 * is too far behind loses its stream and lists anew.
 */
import { SelvageError } from "../errors.ts";
import type { EmbeddedStore } from "../store/embedded_store.ts";
import type { TokenStore } from "./tokens.ts";
import { toWireChange, type WatchLine } from "./wire.ts";

/** Bounds of the streams. */
export interface WatchStreamsOptions {
  readonly heartbeat_ms: number;
  readonly countMax: number;
  /** A client that has not read for so long loses its connection. */
  readonly stall_ms: number;
}

/** Why a stream ends: tidily, or with its connection since nobody reads it. */
type End = "closed" | "stalled";

/** One client's place in the stream of changes. */
class Watcher {
  #wake: (() => void) | null = null;
  #isBeatDue = true;
  #end: End | null = null;
  /** When the client last took what there was for it, by the even clock. */
  taken_ms = performance.now();

  constructor(
    readonly tokenId: string,
    public revision: number,
    readonly nextLine: (watcher: Watcher) => Uint8Array<ArrayBuffer> | null | "none",
    readonly beat: (revision: number) => Uint8Array<ArrayBuffer>,
    readonly onEnd: (end: End) => void,
  ) {}

  get isWaiting(): boolean {
    return this.#wake !== null;
  }

  /** The next line when there is one; null at the end of the stream. */
  async next(): Promise<Uint8Array<ArrayBuffer> | null> {
    this.taken_ms = performance.now();
    while (this.#end === null) {
      const line = this.nextLine(this);
      if (line === null) this.end("closed");
      else if (line !== "none") return line;
      else if (this.#isBeatDue) {
        this.#isBeatDue = false;
        return this.beat(this.revision);
      } else await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return null;
  }

  wake(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  /** Owes the client a sign of life. */
  requestBeat(): void {
    this.#isBeatDue = true;
    this.wake();
  }

  end(end: End): void {
    if (this.#end !== null) return;
    this.#end = end;
    this.wake();
    this.onEnd(end);
  }
}

function encode(line: WatchLine): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${JSON.stringify(line)}\n`);
}

/** All the watch streams of one server. */
export class WatchStreams {
  readonly #watchers = new Set<Watcher>();
  readonly #stops: (() => void)[];
  /** The line last made: most watchers are at the same revision and get the same one. */
  #last: { from: number; to: number; bytes: Uint8Array<ArrayBuffer> } | null = null;

  constructor(
    readonly store: EmbeddedStore,
    readonly tokens: TokenStore,
    readonly options: WatchStreamsOptions,
  ) {
    const timer = setInterval(() => this.#tick(), options.heartbeat_ms);
    timer.unref();
    this.#stops = [
      () => clearInterval(timer),
      store.onChange(() => this.#watchers.forEach((watcher) => watcher.wake())),
      tokens.onRevoke((id) => this.#endWhere((watcher) => watcher.tokenId === id)),
    ];
  }

  get count(): number {
    return this.#watchers.size;
  }

  /** Ends streams tidily: their clients see the end, and what they do next is refused or not. */
  #endWhere(condition: (watcher: Watcher) => boolean): void {
    for (const watcher of [...this.#watchers]) if (condition(watcher)) watcher.end("closed");
  }

  #tick(): void {
    // Once a beat and token, not once a watcher: another process may have revoked it.
    const alive = new Map<string, boolean>();
    for (const { tokenId } of this.#watchers) {
      if (!alive.has(tokenId)) alive.set(tokenId, this.#tokenExists(tokenId));
    }
    this.#endWhere((watcher) => !alive.get(watcher.tokenId));
    const stalled_ms = performance.now() - this.options.stall_ms;
    for (const watcher of [...this.#watchers]) {
      if (!watcher.isWaiting && watcher.taken_ms < stalled_ms) watcher.end("stalled");
      else watcher.requestBeat();
    }
  }

  #tokenExists(id: string): boolean {
    try {
      return this.tokens.exists(id);
    } catch {
      // The file cannot be read just now; new requests are refused, running streams go on.
      return true;
    }
  }

  /** The line after the watcher's revision; "none" if nothing came after it, null if unknown. */
  #nextLine(watcher: Watcher): Uint8Array<ArrayBuffer> | null | "none" {
    if (this.#last?.from === watcher.revision) {
      watcher.revision = this.#last.to;
      return this.#last.bytes;
    }
    let next: ReturnType<EmbeddedStore["changesSince"]>;
    try {
      next = this.store.changesSince(watcher.revision);
    } catch {
      return null; // The store fails or was closed; the client comes back and hears why.
    }
    if (next === null) return null;
    if (next.revision === watcher.revision) return "none";
    const from = watcher.revision;
    watcher.revision = next.revision;
    const bytes = encode({ revision: next.revision, changes: next.changes.map(toWireChange) });
    this.#last = { from, to: next.revision, bytes };
    return bytes;
  }

  /**
   * A stream of the changes after `revision`, a heartbeat first. `drop` cuts the connection under
   * it. Throws `unavailable` when too many watch.
   */
  open(tokenId: string, revision: number, drop: () => void): ReadableStream<Uint8Array> {
    if (this.#watchers.size >= this.options.countMax) {
      const text = `${this.options.countMax} hosts watch this registry already`;
      throw new SelvageError("unavailable", text);
    }
    const watcher = new Watcher(
      tokenId,
      revision,
      (self) => this.#nextLine(self),
      (at) => encode({ revision: at, changes: [] }),
      (end) => {
        this.#watchers.delete(watcher);
        if (end === "stalled") drop();
      },
    );
    this.#watchers.add(watcher);
    return new ReadableStream<Uint8Array>({
      async pull(controller) {
        const line = await watcher.next();
        if (line === null) controller.close();
        else controller.enqueue(line);
      },
      cancel() {
        watcher.end("closed");
      },
    }, { highWaterMark: 0 });
  }

  /** Ends every stream. */
  close(): void {
    for (const stop of this.#stops) stop();
    this.#endWhere(() => true);
  }
}
