/** Errors that say more than their code. */
import { SelvageError } from "../../errors.ts";

/** A write was sent and its answer is missing: it may have been done. Read before trying again. */
export class AmbiguousError extends SelvageError {
  override name = "AmbiguousError";

  constructor(message: string) {
    super("unavailable", message);
  }
}

/** The history that a watch or a list asked for is not there: list anew. */
export class CompactedError extends SelvageError {
  override name = "CompactedError";

  /**
   * @param compactRevision The oldest revision that still exists; 0n: the server did not say, or
   * the history is another one, as after etcd was set up anew.
   */
  constructor(readonly compactRevision: bigint) {
    super(
      "unavailable",
      compactRevision === 0n
        ? "etcd does not have the history that was asked for"
        : `etcd has dropped its history before revision ${compactRevision}`,
    );
  }
}
