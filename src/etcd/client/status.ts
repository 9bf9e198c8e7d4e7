/**
 * What an endpoint's refusal means. etcd tells its errors as a gRPC status code and a fixed text
 * (api/v3rpc/rpctypes/error.go); codes alone are too coarse.
 */
import { SelvageError } from "../../errors.ts";
import { CompactedError } from "./error.ts";

/** gRPC status codes (grpc/doc/statuscodes.md). */
export const Status = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** Begins what a channel tells of a name without addresses: ours, and no call was sent. */
export const UNRESOLVED = "Name resolution failed";

/** A call that ended with a status that is not OK. */
export class StatusError extends Error {
  override name = "StatusError";

  constructor(readonly code: number, readonly details: string) {
    super(details);
  }
}

/** An endpoint to which there is no connection: nothing was sent. `message` says why. */
export class ConnectError extends Error {
  override name = "ConnectError";

  constructor(message: string, readonly hint = "") {
    super(message);
  }
}

/** What follows from a failure. */
export type Judgement =
  /** The server has answered; another one would say the same. */
  | { readonly next: "stop"; readonly error: SelvageError }
  /** Nothing was done, for lack of a token that is good: with a new one it can be made again. */
  | { readonly next: "authenticate" }
  /** Not here. `isDone` is false where the call was surely not carried out. */
  | {
    readonly next: "elsewhere";
    readonly why: string;
    readonly hint: string;
    readonly isDone: "no" | "unknown";
  };

const NO_SPACE = "etcd takes no writes: its database is full (mvcc: database space exceeded)";
const NO_SPACE_HINT = "Compact and defragment etcd, then disarm its alarm: etcdctl compact " +
  "REVISION; etcdctl defrag; etcdctl alarm disarm.";

function stop(error: SelvageError): Judgement {
  return { next: "stop", error };
}

function elsewhere(why: string, isDone: "no" | "unknown", hint = ""): Judgement {
  return { next: "elsewhere", why, hint, isDone };
}

function judgeResources(details: string): Judgement {
  if (details.includes("database space exceeded")) {
    return stop(new SelvageError("store_full", NO_SPACE, { hint: NO_SPACE_HINT }));
  }
  if (/larger than max/i.test(details)) {
    return stop(new SelvageError("too_large", `etcd: a message is too large (${details})`));
  }
  return elsewhere(plain(details), details.includes("too many requests") ? "no" : "unknown");
}

function judgeArgument(details: string): Judgement {
  if (/auth store is old|user name is empty/.test(details)) return { next: "authenticate" };
  if (details.includes("authentication failed")) {
    const hint = "Check --etcd-username and --etcd-password.";
    return stop(new SelvageError("unauthorized", "etcd: wrong user or password", { hint }));
  }
  if (/too large|too many operations/.test(details)) {
    return stop(new SelvageError("too_large", `etcd: ${plain(details)}`));
  }
  return stop(new SelvageError("invalid_argument", `etcd: ${plain(details)}`));
}

function judgeUnavailable(details: string): Judgement {
  if (details.includes("no leader")) {
    return elsewhere("it has no leader: most members are away from it", "no");
  }
  if (details.startsWith("No connection established") || details.startsWith(UNRESOLVED)) {
    return elsewhere(plain(details), "no");
  }
  return elsewhere(plain(details) || "the connection broke", "unknown");
}

/** The text without what etcd and gRPC put before it. */
function plain(details: string): string {
  return details.replace(/^(rpc error: code = \w+ desc = )?(etcdserver: )?/, "").trim();
}

/** What follows from a status that is not OK. */
export function judgeStatus({ code, details }: StatusError): Judgement {
  switch (code) {
    case Status.UNAUTHENTICATED:
      return { next: "authenticate" };
    case Status.INVALID_ARGUMENT:
      return judgeArgument(details);
    case Status.PERMISSION_DENIED: {
      const hint =
        "Grant the user's role in etcd read permission for the prefix, and for commands that " +
        "change something write permission, too.";
      const text = `etcd: the user may not do this (${plain(details)})`;
      return stop(new SelvageError("forbidden", text, { hint }));
    }
    case Status.NOT_FOUND:
      return stop(new SelvageError("not_found", `etcd: ${plain(details)}`));
    case Status.OUT_OF_RANGE:
      return stop(new CompactedError(0n));
    case Status.RESOURCE_EXHAUSTED:
      return judgeResources(details);
    case Status.FAILED_PRECONDITION:
      return stop(new SelvageError("conflict", `etcd: ${plain(details)}`));
    case Status.UNIMPLEMENTED:
      return elsewhere("what answers there does not speak etcd's v3 API", "no");
    case Status.UNAVAILABLE:
      return judgeUnavailable(details);
    case Status.DEADLINE_EXCEEDED:
      return elsewhere("no answer in time", "unknown");
    case Status.DATA_LOSS:
      return elsewhere(`its data is damaged (${plain(details)})`, "unknown");
    default:
      return elsewhere(plain(details) || `gRPC status ${code}`, "unknown");
  }
}

/** The same of a watch that the server cancelled, which tells its reason as a text alone. */
export function judgeCancelReason(reason: string): Judgement {
  const codes: [RegExp, number][] = [
    [/invalid auth token/, Status.UNAUTHENTICATED],
    [/permission denied/, Status.PERMISSION_DENIED],
    [/user name is empty|auth store is old/, Status.INVALID_ARGUMENT],
    [/compacted|future revision/, Status.OUT_OF_RANGE],
  ];
  const code = codes.find(([pattern]) => pattern.test(reason))?.[1] ?? Status.UNAVAILABLE;
  return judgeStatus(new StatusError(code, reason));
}
