/** What can go wrong with netlink: bytes that are no message, and a kernel that says no. */
import { errnoName, errnoNumber, errnoText } from "../../ffi/errno.ts";
import { type ErrorCode, SelvageError } from "../errors.ts";

/** Bytes from the kernel whose lengths do not add up. Nothing past their end was read. */
export class NetlinkDecodeError extends SelvageError {
  override name = "NetlinkDecodeError";

  constructor(what: string, why: string) {
    super("internal", `netlink ${what}: ${why}`);
  }
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  EPERM: "permission",
  EACCES: "permission",
  EEXIST: "conflict",
  EADDRINUSE: "conflict",
  ENODEV: "not_found",
  ENOENT: "not_found",
  ESRCH: "not_found",
  EADDRNOTAVAIL: "not_found",
  ENETUNREACH: "not_found",
  EHOSTUNREACH: "not_found",
  EINVAL: "invalid_argument",
  ERANGE: "invalid_argument",
  EOPNOTSUPP: "unsupported",
  EAFNOSUPPORT: "unsupported",
  EPROTONOSUPPORT: "unsupported",
  EBUSY: "unavailable",
  EAGAIN: "unavailable",
  EINTR: "unavailable",
  ENOBUFS: "unavailable",
  ENOMEM: "unavailable",
};

/**
 * The kernel refused a request, such as
 * `add route 10.5.0.0/16 dev selvage0: EEXIST (file exists): <the kernel's own words>`.
 */
export class NetlinkError extends SelvageError {
  override name = "NetlinkError";
  /** The errno by name, such as `EEXIST`. */
  readonly errnoName: string;

  constructor(
    /** What was tried, such as `add route`. */
    readonly operation: string,
    /** On what, such as `10.5.0.0/16 dev selvage0`. */
    readonly object: string,
    readonly errno: number,
    /** The kernel's own words (extended ack), empty where it had none. */
    readonly kernelText: string,
  ) {
    const name = errnoName(errno);
    const where = object === "" ? operation : `${operation} ${object}`;
    const words = kernelText === "" ? "" : `: ${kernelText}`;
    super(CODES[name] ?? "internal", `${where}: ${name} (${errnoText(errno)})${words}`, {
      hint: CODES[name] === "permission" ? "Run it as root, or with CAP_NET_ADMIN." : "",
    });
    this.errnoName = name;
  }
}

/** Whether `error` is the kernel's refusal with one of these errno names. */
export function hasErrno(error: unknown, ...names: readonly string[]): error is NetlinkError {
  return error instanceof NetlinkError &&
    names.some((name) => error.errno === errnoNumber(name));
}
