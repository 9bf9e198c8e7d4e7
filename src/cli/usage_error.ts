/** What separates "you called me wrongly" (exit 2) from "it did not work" (exit 1). */
import { SelvageError } from "../errors.ts";

/** Exit codes of every command. */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;

/** An error in the command line or the environment itself; nothing was done yet. */
export class UsageError extends SelvageError {
  override name = "UsageError";

  constructor(message: string, hint = "") {
    super("invalid_argument", message, { hint });
  }
}
