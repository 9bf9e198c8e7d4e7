/**
 * Every error that a user of Selvage may meet. The text names what went wrong and where; `hint`
 * is the one sentence that says what to do next. `code` is stable and meant for machines.
 */
export type ErrorCode =
  | "invalid_argument" // a flag, a file or a body that breaks its rules
  | "unauthorized" // no token, or a wrong one
  | "forbidden" // a Host, Origin or right that does not allow it
  | "not_found" // no such lease, token or path
  | "method_not_allowed" // a path of the API that does not have this method
  | "unsupported_media" // a body of another type, encoding or charset than is read
  | "conflict" // taken by someone else, or overlapping
  | "lease_lost" // the lease is gone, or another node holds the subnet
  | "config_missing" // the store holds no network configuration yet
  | "out_of_subnets" // the network is full
  | "too_large" // a body or a table past its bound
  | "unavailable" // the store, the registry or the daemon cannot be reached
  | "store_full" // the store is read, and takes no writes for lack of space
  | "unsupported" // this host or this build cannot do it
  | "permission" // a privilege is missing
  | "internal"; // a defect of ours

/** An error with a code, a place and advice. It is worded once, here, and shown once. */
export class SelvageError extends Error {
  override name = "SelvageError";
  readonly code: ErrorCode;
  /** What to do about it, as one sentence; empty where nothing can be advised. */
  readonly hint: string;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? "";
  }
}

/** The text of anything that was thrown, without its stack. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** `ENOENT: no such file or directory, open '/x'`, as both runtimes word an error of a file. */
const FILE_ERROR = /^(E[A-Z0-9]+): (.*?)(?:, [a-z0-9]+(?: '.*'(?: -> '.*')?)?)?$/s;

/**
 * Why an access to a file failed, such as `no such file (ENOENT)`, for a text that has named the
 * file already: the runtime's own text would name it once more. Any other error as `errorText`.
 */
export function fileReason(error: unknown): string {
  const text = errorText(error);
  const [, code, reason] = FILE_ERROR.exec(text) ?? [];
  if (code === undefined || code !== (error as { code?: unknown }).code) return text;
  return `${code === "ENOENT" ? "no such file" : reason} (${code})`;
}

const STORE_FAULT_CODES = ["unavailable", "unauthorized", "forbidden", "store_full"] as const;

/** Whether it is a store that fails, and not what was asked of it. */
export function isStoreFault(error: unknown): boolean {
  return STORE_FAULT_CODES.some((code) => hasCode(error, code));
}

/** What to do about anything that was thrown; empty where that is not known. */
export function hintOf(error: unknown): string {
  return error instanceof SelvageError ? error.hint : "";
}

/** What is wrong and what to do about it, as one text. */
export function adviceText(error: unknown): string {
  const hint = hintOf(error);
  return hint === "" ? errorText(error) : `${errorText(error)}. ${hint}`;
}

/** Whether `error` is one of ours with this code. */
export function hasCode(error: unknown, code: ErrorCode): error is SelvageError {
  return error instanceof SelvageError && error.code === code;
}
