import { SelvageError } from "../errors.ts";

/** The error of every call on a store that was closed. */
export function closedError(): SelvageError {
  return new SelvageError("unavailable", "the lease store was closed");
}
