/** How the store does, from what became of its watch and of its calls. */
import { adviceText, errorText, hasCode } from "../errors.ts";
import type { StoreState } from "../store/store.ts";

/** Errors by which etcd cannot be used, whoever asks what; all others are answers. */
function isLoss(error: unknown): boolean {
  return hasCode(error, "unavailable") || hasCode(error, "unauthorized") ||
    hasCode(error, "forbidden");
}

/** What may fail apart from the others: a full etcd is read, and takes no writes. */
type Call = "write" | "read";

/** Whether etcd is reached, since when, and what fails. */
export class Health {
  #connected = false;
  #since_ms: number;
  #lastError: string | null = null;
  #errorSince_ms: number | null = null;
  /** Why the watch died; null: it lives, or nobody watches. */
  #watchFault: string | null = null;
  /** Of the calls what failed, of what has not succeeded since. */
  readonly #callFaults = new Map<Call, string>();
  #isLastCallLost = true;
  /** While a watch runs, it says whether etcd is reached. */
  #isWatching = false;

  /** `onChange` is told of each change that counts. */
  constructor(readonly now_ms: () => number, readonly onChange: () => void) {
    this.#since_ms = now_ms();
  }

  get state(): Pick<StoreState, "connected" | "since_ms" | "lastError" | "errorSince_ms"> {
    return {
      connected: this.#connected,
      since_ms: this.#since_ms,
      lastError: this.#lastError,
      errorSince_ms: this.#errorSince_ms,
    };
  }

  /** Takes what became of a call, if it was one, and of all that is known draws the state. */
  #settle(call?: Call, fault: string | null = null): void {
    const connected = this.#isWatching ? this.#watchFault === null : !this.#isLastCallLost;
    // What failed while etcd was away says nothing of how it does now.
    if (connected && !this.#connected) this.#callFaults.clear();
    if (call !== undefined) {
      if (fault === null) this.#callFaults.delete(call);
      else this.#callFaults.set(call, fault);
    }
    const { write, read } = Object.fromEntries(this.#callFaults);
    const lastError = this.#watchFault ?? write ?? read ?? null;
    const isNews = connected !== this.#connected || lastError !== this.#lastError;
    this.#set(connected, lastError);
    if (isNews) this.onChange();
  }

  #set(connected: boolean, lastError: string | null): void {
    if (connected !== this.#connected) this.#since_ms = this.now_ms();
    this.#connected = connected;
    this.#lastError = lastError;
    this.#errorSince_ms = lastError === null ? null : this.#errorSince_ms ?? this.now_ms();
  }

  /** A call went well (null), or not; that etcd said no is an answer too. */
  callEnded(call: Call, error: unknown): void {
    this.#isLastCallLost = isLoss(error);
    const isFault = this.#isLastCallLost || hasCode(error, "store_full");
    this.#settle(call, isFault ? adviceText(error) : null);
  }

  /** The watch has shown a sign of life (null), or died. */
  watchTold(error: unknown): void {
    this.#isWatching = true;
    this.#watchFault = error === null ? null : adviceText(error);
    this.#settle();
  }

  /** Nobody watches any more. */
  watchEnded(): void {
    this.#isWatching = false;
    this.#isLastCallLost = this.#watchFault !== null;
    this.#settle();
  }

  /** The store was closed. */
  close(error: unknown): void {
    this.#set(false, errorText(error));
  }
}
