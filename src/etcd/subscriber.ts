/** One reader of the leases' changes, as slow as it likes. */
import { Bell } from "../bell.ts";
import type { LeaseChange } from "../lease/lease.ts";
import { diffTables, LeaseTable } from "../lease/lease_table.ts";

/** So many changes wait for a reader; one that is further behind gets the difference. */
const WAITING_COUNT_MAX = 10_000;

export class Subscriber {
  readonly bell = new Bell();
  /** All leases as the reader knows them; null: it has got nothing yet. */
  #told: LeaseTable | null = null;
  #waiting: (readonly LeaseChange[])[] = [];
  #waitingCount = 0;
  /** Whether more has happened than is kept. */
  #isBehind = false;
  #isBeatDue = false;

  constructor(readonly waitingCountMax = WAITING_COUNT_MAX) {}

  /** These changes have happened. */
  push(changes: readonly LeaseChange[]): void {
    // What a reader has not begun with, it gets as a whole.
    if (this.#told !== null && !this.#isBehind) {
      this.#waiting.push(changes);
      this.#waitingCount += changes.length;
      if (this.#waitingCount > this.waitingCountMax) {
        this.#isBehind = true;
        this.#waiting = [];
        this.#waitingCount = 0;
      }
    }
    this.bell.ring();
  }

  /** etcd has given a sign of life; the reader is to have one too. */
  beat(): void {
    this.#isBeatDue = true;
    this.bell.ring();
  }

  /** The changes that the reader gets next; `now` are all leases. Null: there are none. */
  next(now: LeaseTable): readonly LeaseChange[] | null {
    if (this.#told === null) {
      this.#told = now;
      return diffTables(LeaseTable.EMPTY, now);
    }
    if (this.#isBehind) {
      this.#isBehind = false;
      const changes = diffTables(this.#told, now);
      this.#told = now;
      return changes.length > 0 ? changes : null;
    }
    const changes = this.#waiting.shift();
    if (changes === undefined) return this.#takeBeat();
    this.#waitingCount -= changes.length;
    // The whole is made anew only where it is not at hand.
    this.#told = this.#waiting.length === 0 ? now : this.#told.apply(changes);
    return changes;
  }

  #takeBeat(): readonly LeaseChange[] | null {
    if (!this.#isBeatDue) return null;
    this.#isBeatDue = false;
    return [];
  }
}
