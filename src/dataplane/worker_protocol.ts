/** What passes between the data plane and the worker of one loop. */
import type { Role } from "./counters.ts";

/** The one message to the worker. Descriptors are borrowed until the worker has ended. */
export interface WorkerStart {
  readonly role: Role;
  readonly memory: WebAssembly.Memory;
  readonly tun_fd: number;
  readonly udp_fd: number;
  /** -1: there is none. */
  readonly icmp_fd: number;
  /** eventfd that becomes readable when the loops are to end. */
  readonly wake_fd: number;
  /** IPv4 source of ICMP errors, in host order. */
  readonly tunAddress: number;
  /** The overlay's network: address and mask, in host order. */
  readonly network: number;
  readonly networkMask: number;
  /** `OFFLOAD_…` bits. */
  readonly offloads: number;
}

/**
 * `loaded` asks for the start message. `ready` comes right before the loop runs, `ended` when it
 * has returned or could not start.
 */
export type WorkerMessage =
  | { readonly type: "loaded" }
  | { readonly type: "ready" }
  | { readonly type: "ended"; readonly errno: number; readonly error: string | null };
