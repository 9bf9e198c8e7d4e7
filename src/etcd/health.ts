/** How the store does, from what became of its watch and of its calls. */
import { adviceText, hasCode, isStoreFault, SelvageError } from "../errors.ts";
import type { StoreState } from "../store/store.ts";

/** Errors by which etcd cannot be reached, or knows us no more; all others are its answers. */
function isLoss(error: unknown): boolean {
  return hasCode(error, "unavailable") || hasCode(error, "unauthorized");
}

interface Fault {
  readonly code: string;
  readonly text: string;
  /** Since when it fails in this way. */
  readonly since_ms: number;
}

/** Whether etcd is reached, since when, and what fails. */
export class Health {
  #connected = false;
  #since_ms: number;
  #isLastCallLost = true;
  /** While a watch runs, it says whether etcd is reached. */
  #isWatching = false;
  /** Why the watch died. */
  #watchFault: Fault | null = null;
  /** Why the node cannot have its lease; the node tries again until it has one. */
  #ownFault: Fault | null = null;
  /** The fault that the last call found in the store, whoever made it; null: it found none. */
  #callFault: Fault | null = null;
  #told: string | null = null;

  /**
   * `now_ms` is of a clock that cannot be set; `onChange` is called for each change that matters.
   */
  constructor(readonly now_ms: () => number, readonly onChange: () => void) {
    this.#since_ms = now_ms();
  }

  /**
   * The fault to report: the watch's; else the lease's; else, if no watch runs, the last call's.
   */
  get #fault(): Fault | null {
    return this.#watchFault ?? this.#ownFault ?? (this.#isWatching ? null : this.#callFault);
  }

  get state(): Pick<StoreState, "connected" | "since_ms" | "lastError" | "errorSince_ms"> {
    return {
      connected: this.#connected,
      since_ms: this.#since_ms,
      lastError: this.#fault?.text ?? null,
      errorSince_ms: this.#fault?.since_ms ?? null,
    };
  }

  /**
   * The fault of an error. If it is the fault that is reported already, it keeps the time when that
   * began.
   */
  #faultOf(error: unknown): Fault {
    const code = error instanceof SelvageError ? error.code : "internal";
    const told = this.#fault;
    const since_ms = told?.code === code ? told.since_ms : this.now_ms();
    return { code, text: adviceText(error), since_ms };
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#since_ms = this.now_ms();
  }

  /** Draws the state anew; `own` is what became of a call for the node's lease, if it was one. */
  #settle(own?: { readonly error: unknown }): void {
    const wasConnected = this.#connected;
    const connected = this.#isWatching ? this.#watchFault === null : !this.#isLastCallLost;
    this.#setConnected(connected);
    // What failed while etcd was away says nothing of how it does now.
    if (connected && !wasConnected) this.#ownFault = null;
    if (own !== undefined) {
      this.#ownFault = isStoreFault(own.error) ? this.#faultOf(own.error) : null;
    }
    const text = this.#fault?.text ?? null;
    const isNews = connected !== wasConnected || text !== this.#told;
    this.#told = text;
    if (isNews) this.onChange();
  }

  /**
   * A call went well (null), or not; that etcd said no is an answer too. `isOwn`: it was for the
   * node's lease, and is made again until it goes well.
   */
  callEnded(isOwn: boolean, error: unknown): void {
    this.#isLastCallLost = isLoss(error);
    this.#callFault = isStoreFault(error) ? this.#faultOf(error) : null;
    this.#settle(isOwn ? { error } : undefined);
  }

  /** The watch has shown a sign of life (null), or died. */
  watchTold(error: unknown): void {
    this.#isWatching = true;
    this.#watchFault = error === null ? null : this.#faultOf(error);
    this.#settle();
  }

  /** Nobody watches any more. */
  watchEnded(): void {
    this.#isWatching = false;
    this.#isLastCallLost = this.#watchFault !== null;
    this.#callFault = this.#watchFault;
    this.#watchFault = null;
    this.#settle();
  }

  /** The store was closed. */
  close(error: unknown): void {
    this.#setConnected(false);
    this.#watchFault = this.#faultOf(error);
  }
}
