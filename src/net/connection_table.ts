/**
 * The connections of one listener, counted from `accept` on, and which of them is closed when there
 * are too many. A connection is unproven until an answer on it shows that its client may be here:
 * strangers can hold only unproven connections. Pure: time comes from the caller.
 *
 * A newcomer is always let in while an unproven or an idle connection can be closed for it:
 *
 * 1. where its own source holds too many unproven ones, the oldest of these goes, unless that is so
 *    young that it may just be shaking hands: hosts behind one address that all come at once would
 *    otherwise put each other out;
 * 2. where there are too many unproven ones in all, the oldest of the source with the most goes;
 * 3. where there are too many connections, an unproven one goes as in 2, else the proven one that
 *    has been idle for longest. Connections of clients at work stay, and the newcomer is refused.
 *
 * One source is made room for a bounded number of times in a second. A flood would otherwise cost a
 * TLS state for each of its connections, which is freed only when garbage is collected.
 */

export interface ConnectionLimits {
  readonly countMax: number;
  readonly unprovenCountMax: number;
  /** Many hosts may stand behind one address, each unproven until its first answer. */
  readonly unprovenPerSourceMax: number;
  /** How old an unproven connection must be to be closed for another of its own source. */
  readonly shedAgeMin_ms: number;
  /** How often in a second another connection is closed for a newcomer of one source. */
  readonly shedPerSecondMax: number;
}

const SHED_WINDOW_MS = 1_000;
/** For how many sources sheds are counted in a window. */
const SOURCE_COUNT_MAX = 1_000;

/** What a connection is doing. */
export type Activity =
  | "handshake" // TLS is not there yet
  | "idle" // no request has come, or the last one is answered
  | "request"; // a request is read or answered

export interface Connection {
  readonly source: string;
  /** Closes the connection at once; the table has removed it before. */
  readonly close: () => void;
  readonly accepted_ms: number;
  activity: Activity;
  /** When the activity began. */
  since_ms: number;
  isProven: boolean;
}

/**
 * Whose a connection is, for the bounds: its address; the /64 of an IPv6 address, because one host
 * commonly has all of that; one for the whole of loopback, which is all of this host's.
 */
export function sourceOf(remoteAddress: string): string {
  const text = remoteAddress.replace(/^::ffff:(?=\d+\.)/, "");
  if (/^127\./.test(text) || text === "::1") return "loopback";
  if (!text.includes(":")) return text;
  const [head = "", tail] = text.split("%")[0]!.split("::");
  const groups = head === "" ? [] : head.split(":");
  const rest = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - groups.length - rest.length;
  return [...groups, ...Array(Math.max(0, zeros)).fill("0"), ...rest].slice(0, 4).join(":") + "::";
}

/** The first of a set in the order of insertion; null: it is empty. */
function first<T>(set: Iterable<T>): T | null {
  for (const one of set) return one;
  return null;
}

export class ConnectionTable {
  readonly #all = new Set<Connection>();
  /** By source, oldest first. */
  readonly #unproven = new Map<string, Set<Connection>>();
  #unprovenCount = 0;
  /** Since when sheds are counted, and for whom there were how many. */
  #window_ms = -Infinity;
  readonly #shedBySource = new Map<string, number>();
  /** How many were closed to make room, and how many were not let in. */
  shedCount = 0;
  refusedCount = 0;

  constructor(readonly limits: ConnectionLimits) {}

  get count(): number {
    return this.#all.size;
  }

  get connections(): Iterable<Connection> {
    return this.#all;
  }

  /** Takes a new connection in, for which another may have to go; null: there is no room for it. */
  add(source: string, now_ms: number, close: () => void): Connection | null {
    const { countMax, unprovenCountMax, unprovenPerSourceMax, shedAgeMin_ms } = this.limits;
    const own = this.#unproven.get(source);
    let victim: Connection | null = null;
    if (own !== undefined && own.size >= unprovenPerSourceMax) {
      victim = first(own);
      if (now_ms - victim!.accepted_ms < shedAgeMin_ms) return this.#refuse();
    } else if (this.#unprovenCount >= unprovenCountMax) victim = this.#oldestOfLargest();
    else if (this.#all.size >= countMax) victim = this.#oldestOfLargest() ?? this.#longestIdle();
    if (victim !== null && this.#mayShed(source, now_ms)) {
      this.delete(victim);
      this.shedCount++;
      victim.close();
    } else if (victim !== null || this.#all.size >= countMax) {
      return this.#refuse();
    }
    const connection: Connection = {
      source,
      close,
      accepted_ms: now_ms,
      activity: "handshake",
      since_ms: now_ms,
      isProven: false,
    };
    this.#all.add(connection);
    const unproven = this.#unproven.get(source) ?? new Set();
    this.#unproven.set(source, unproven.add(connection));
    this.#unprovenCount++;
    return connection;
  }

  /** Marks a connection whose client has shown that it has a right to it. */
  prove(connection: Connection): void {
    if (connection.isProven || !this.#all.has(connection)) return;
    this.#dropUnproven(connection);
    connection.isProven = true;
  }

  setActivity(connection: Connection, activity: Activity, now_ms: number): void {
    connection.activity = activity;
    connection.since_ms = now_ms;
  }

  /** It is closed, or is about to be. May be called more than once. */
  delete(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    if (!connection.isProven) this.#dropUnproven(connection);
  }

  #dropUnproven(connection: Connection): void {
    const own = this.#unproven.get(connection.source)!;
    own.delete(connection);
    this.#unprovenCount--;
    if (own.size === 0) this.#unproven.delete(connection.source);
  }

  #refuse(): null {
    this.refusedCount++;
    return null;
  }

  #mayShed(source: string, now_ms: number): boolean {
    if (now_ms - this.#window_ms >= SHED_WINDOW_MS) {
      this.#window_ms = now_ms;
      this.#shedBySource.clear();
    }
    const count = this.#shedBySource.get(source) ?? 0;
    const isMany = this.#shedBySource.size >= SOURCE_COUNT_MAX;
    if (count >= this.limits.shedPerSecondMax || (count === 0 && isMany)) return false;
    this.#shedBySource.set(source, count + 1);
    return true;
  }

  /** The oldest unproven connection of the source that has the most of them; null: none. */
  #oldestOfLargest(): Connection | null {
    let largest: Set<Connection> | null = null;
    for (const own of this.#unproven.values()) {
      if (largest === null || own.size > largest.size) largest = own;
    }
    return largest && first(largest);
  }

  #longestIdle(): Connection | null {
    let longest: Connection | null = null;
    for (const connection of this.#all) {
      if (connection.activity !== "idle") continue;
      if (longest === null || connection.since_ms < longest.since_ms) longest = connection;
    }
    return longest;
  }
}
