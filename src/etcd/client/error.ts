/** Errors that say more than their code. */
import { SelvageError } from "../../errors.ts";

/** A write was sent and its answer is missing: it may have been done. Read before trying again. */
export class AmbiguousError extends SelvageError {
  override name = "AmbiguousError";

  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super("unavailable", message, options);
  }
}

/** The history that a watch or a list asked for is gone: list anew. */
export class CompactedError extends SelvageError {
  override name = "CompactedError";

  /** @param compactRevision The oldest revision there still is; 0n: not told. */
  constructor(readonly compactRevision: bigint) {
    super("unavailable", `etcd has dropped its history before revision ${compactRevision}`);
  }
}
