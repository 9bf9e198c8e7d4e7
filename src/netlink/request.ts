/** Requests to the kernel. */
import { messageSize_bytes, writeMessage } from "./message.ts";

/** One request, not yet numbered. */
export interface NetlinkRequest {
  /** The message's type, such as `RTM_NEWLINK`. */
  readonly type: number;
  /** `NLM_F_*` besides those that the connection adds (REQUEST, ACK, DUMP). */
  readonly flags: number;
  /** Family header and attributes; owned by the request. */
  readonly payload: Uint8Array;
  /** For errors: what is tried, such as `add route`. */
  readonly operation: string;
  /** For errors: on what, such as `10.5.0.0/16 dev selvage0`; may be empty. */
  readonly object: string;
}

/**
 * Writes requests one after another, numbered from `first`, each with `flags` added to its own.
 * The result is the caller's.
 */
export function encodeRequests(
  requests: readonly NetlinkRequest[],
  first: number,
  flags: number,
): Uint8Array {
  const sizes_bytes = requests.map(({ payload }) => messageSize_bytes(payload));
  const bytes = new Uint8Array(sizes_bytes.reduce((sum, size_bytes) => sum + size_bytes, 0));
  let offset = 0;
  for (const [i, request] of requests.entries()) {
    offset = writeMessage(bytes, offset, {
      type: request.type,
      flags: request.flags | flags,
      sequence: first + i,
      portId: 0,
      payload: request.payload,
    });
  }
  return bytes;
}
