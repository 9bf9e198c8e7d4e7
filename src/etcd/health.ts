/** How the store does, from what became of its watch and of its calls. */
import { errorText, hasCode, SelvageError } from "../errors.ts";
import type { StoreState } from "../store/store.ts";

/** Errors by which etcd cannot be used, whoever asks what; all others are answers. */
function isLoss(error: unknown): boolean {
  return hasCode(error, "unavailable") || hasCode(error, "unauthorized") ||
    hasCode(error, "forbidden");
}

/** What is wrong and what to do about it. */
function advice(error: unknown): string {
  const hint = error instanceof SelvageError ? error.hint : "";
  return hint === "" ? errorText(error) : `${errorText(error)}. ${hint}`;
}

/** What may fail apart from the others: a full etcd is read, and takes no writes. */
type Activity = "watch" | "write" | "read";

/** Whether etcd is reached, since when, and what failed last. */
export class Health {
  #connected = false;
  #since_ms: number;
  #lastError: string | null = null;
  /** What failed, of what has not succeeded since. */
  readonly #faults = new Map<Activity, string>();
  #didLastCallFail = true;
  /** While a watch runs, it says whether etcd is reached. */
  #isWatching = false;

  /** `onChange` is told of each change that counts. */
  constructor(readonly now_ms: () => number, readonly onChange: () => void) {
    this.#since_ms = now_ms();
  }

  get state(): Pick<StoreState, "connected" | "since_ms" | "lastError"> {
    return {
      connected: this.#connected,
      since_ms: this.#since_ms,
      lastError: this.#lastError,
    };
  }

  #settle(): void {
    const connected = this.#isWatching ? !this.#faults.has("watch") : !this.#didLastCallFail;
    // What failed while etcd was away says nothing of how it does now.
    if (connected && !this.#connected) this.#faults.clear();
    const { watch, write, read } = Object.fromEntries(this.#faults);
    const lastError = watch ?? write ?? read ?? null;
    const isNews = connected !== this.#connected || lastError !== this.#lastError;
    if (connected !== this.#connected) this.#since_ms = this.now_ms();
    this.#connected = connected;
    this.#lastError = lastError;
    if (isNews) this.onChange();
  }

  #note(activity: Activity, fault: string | null): void {
    if (fault === null) this.#faults.delete(activity);
    else this.#faults.set(activity, fault);
  }

  /** A call went well (null), or not; that etcd said no is an answer too. */
  callEnded(activity: "write" | "read", error: unknown): void {
    this.#didLastCallFail = isLoss(error);
    this.#note(activity, this.#didLastCallFail ? advice(error) : null);
    this.#settle();
  }

  /** The watch has shown a sign of life (null), or died. */
  watchTold(error: unknown): void {
    this.#isWatching = true;
    this.#note("watch", error === null ? null : advice(error));
    this.#settle();
  }

  /** Nobody watches any more. */
  watchEnded(): void {
    this.#isWatching = false;
    this.#didLastCallFail = this.#faults.has("watch");
    this.#settle();
  }

  /** The store was closed. */
  close(error: unknown): void {
    if (this.#connected) this.#since_ms = this.now_ms();
    this.#connected = false;
    this.#lastError = errorText(error);
  }
}
