/** What passes between the data plane and the worker of one loop. */
import type { Role } from "./counters.ts";

/** The one message to the worker. */
export interface WorkerStart {
  readonly role: Role;
  /** Holds the lane's configuration already. */
  readonly memory: WebAssembly.Memory;
  /** Number of the lane. */
  readonly lane: number;
}

/**
 * `loaded` asks for the start message. `ready` comes right before the loop runs, `ended` when it
 * has returned or could not start.
 */
export type WorkerMessage =
  | { readonly type: "loaded" }
  | { readonly type: "ready" }
  | { readonly type: "ended"; readonly errno: number; readonly error: string | null };
