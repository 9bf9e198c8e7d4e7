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
  /** Of a deletion: the errno, by name, where there is nothing to delete. */
  readonly absentErrno?: string;
}

/**
 * Writes requests one after another, numbered from `first`, each with `flags` added to its own, the
 * last with `lastFlags` too. The result is the caller's.
 */
export function encodeRequests(
  requests: readonly NetlinkRequest[],
  first: number,
  flags: number,
  lastFlags = 0,
): Uint8Array {
  const size_bytes = requests.reduce((sum, { payload }) => sum + messageSize_bytes(payload), 0);
  const bytes = new Uint8Array(size_bytes);
  let offset = 0;
  for (let i = 0; i < requests.length; i++) {
    const request = requests[i]!;
    const added = i === requests.length - 1 ? flags | lastFlags : flags;
    offset = writeMessage(bytes, offset, {
      type: request.type,
      flags: request.flags | added,
      sequence: first + i,
      portId: 0,
      payload: request.payload,
    });
  }
  return bytes;
}
