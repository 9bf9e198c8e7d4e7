/** What has happened to keys of a cluster, from the first revision on, by its JSON gateway. */
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

const RETRY_MS = 50;

export interface HistoryEvent {
  readonly key: string;
  /** null: the key was deleted. */
  readonly value: string | null;
  readonly revision: bigint;
}

/** What happened to a subnet's key; `holder`: the public address in it, null: it was deleted. */
export interface LeaseEvent {
  readonly key: string;
  readonly holder: string | null;
  readonly revision: bigint;
}

interface Response {
  readonly result?: {
    readonly compact_revision?: string;
    readonly events?: readonly {
      readonly type?: "DELETE";
      readonly kv: { readonly key: string; readonly value?: string; readonly mod_revision: string };
    }[];
  };
}

export function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

export function fromBase64(text: string): string {
  return Buffer.from(text, "base64").toString();
}

/** The range of all keys with a prefix, which ends with a character before the last. */
export function rangeOf(prefix: string): { key: string; range_end: string } {
  const last = prefix.charCodeAt(prefix.length - 1);
  const end = prefix.slice(0, -1) + String.fromCharCode(last + 1);
  return { key: base64(prefix), range_end: base64(end) };
}

/**
 * Every event under a prefix, in order and without a gap, whatever becomes of the members: all of
 * them are watched at once, so the one that is not away has what has happened. It is no client of
 * ours: what it says of what that has done does not rest on it.
 */
export class History {
  readonly #range: ReturnType<typeof rangeOf>;
  readonly #onEvent: (event: HistoryEvent) => void;
  readonly #closing = new AbortController();
  readonly #watching: Promise<void>[];
  /** All events up to this revision have been told; no later one may be compacted. */
  seen = 0n;
  /** Events that were lost to a compaction; null: none. */
  failure: string | null = null;

  /** Endpoints without TLS. */
  constructor(
    endpoints: readonly string[],
    prefix: string,
    onEvent: (event: HistoryEvent) => void,
  ) {
    this.#range = rangeOf(prefix);
    this.#onEvent = onEvent;
    this.#watching = endpoints.map((endpoint) => this.#watch(endpoint));
  }

  async #watch(endpoint: string): Promise<void> {
    while (!this.#closing.signal.aborted) {
      await this.#watchOnce(endpoint).catch(() => {});
      await pause(RETRY_MS);
    }
  }

  /** One stream of one member, until it breaks. */
  async #watchOnce(endpoint: string): Promise<void> {
    const create_request = { ...this.#range, start_revision: String(this.seen + 1n) };
    const body = JSON.stringify({ create_request });
    const { signal } = this.#closing;
    const stream = await fetch(`${endpoint}/v3/watch`, { method: "POST", body, signal });
    let rest = "";
    for await (const part of stream.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + part).split("\n");
      rest = lines.pop()!;
      for (const line of lines) if (line !== "") this.#take(JSON.parse(line));
    }
  }

  #take({ result }: Response): void {
    // A member may be asked for what another tells before it has answered.
    if (BigInt(result?.compact_revision ?? 0) > this.seen + 1n) {
      this.failure = `events after revision ${this.seen} are lost to a compaction`;
    }
    // What one revision did comes in one response.
    const before = this.seen;
    for (const { type, kv } of result?.events ?? []) {
      const revision = BigInt(kv.mod_revision);
      if (revision <= before) continue;
      this.seen = revision;
      const value = type === "DELETE" ? null : fromBase64(kv.value ?? "");
      this.#onEvent({ key: fromBase64(kv.key), value, revision });
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#watching);
  }
}

/** The public address in a lease's value. */
export function holderOf(value: string): string {
  return (JSON.parse(value) as { PublicIP: string }).PublicIP;
}

/** Of an event of a subnet's key under this root, whose it was; null: it is of another key. */
export function leaseEvent(root: string, { key, value, revision }: HistoryEvent) {
  const subnets = `${root}subnets/`;
  if (!key.startsWith(subnets)) return null;
  const holder = value === null ? null : holderOf(value);
  return { key: key.slice(subnets.length), holder, revision };
}

/** Who holds which key once all this has happened, as `KEY HOLDER`, sorted. */
export function holdersAfter(events: readonly LeaseEvent[]): string[] {
  const holders = new Map<string, string | null>();
  for (const { key, holder } of events) holders.set(key, holder);
  return [...holders].filter(([, holder]) => holder !== null).map((pair) => pair.join(" ")).sort();
}

/** No key went from one host to another without having been deleted in between. */
export function assertNeverTakenOver(events: readonly LeaseEvent[]): void {
  const holders = new Map<string, string | null>();
  for (const { key, holder, revision } of events) {
    const before = holders.get(key) ?? null;
    const isKept = before === null || holder === null || before === holder;
    assert.ok(isKept, `revision ${revision}: ${key} went from ${before} to ${holder}`);
    holders.set(key, holder);
  }
}
