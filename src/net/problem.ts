/**
 * Errors on the wire: RFC 9457 problem details, `application/problem+json`, with our own `code`
 * and `hint`. Both the API and the registry write and read them here.
 */
import { type ErrorCode, SelvageError } from "../errors.ts";
import { parseJson } from "./checked.ts";

/** RFC 9457 section 6.1. */
export const PROBLEM_MEDIA_TYPE = "application/problem+json";

/** The HTTP status and the short title of each code. */
const KINDS: Readonly<Record<ErrorCode, readonly [status: number, title: string]>> = {
  invalid_argument: [400, "Invalid argument"],
  unauthorized: [401, "Unauthorized"],
  forbidden: [403, "Forbidden"],
  not_found: [404, "Not found"],
  config_missing: [404, "No network configuration"],
  method_not_allowed: [405, "Method not allowed"],
  conflict: [409, "Conflict"],
  lease_lost: [409, "Lease lost"],
  too_large: [413, "Too large"],
  unsupported_media: [415, "Unsupported media type"],
  internal: [500, "Internal error"],
  unsupported: [501, "Not supported"],
  permission: [500, "Permission missing"],
  unavailable: [503, "Unavailable"],
  out_of_subnets: [507, "Out of subnets"],
  store_full: [507, "Store full"],
};

/** The body of a problem response. */
export interface Problem {
  /** `urn:selvage:problem:CODE`; an identifier, not an address. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  /** What went wrong and where, in one sentence. */
  readonly detail: string;
  readonly code: ErrorCode;
  /** What to do about it; not there if nothing can be advised. */
  readonly hint?: string;
}

/**
 * The problem that describes anything thrown. What is not a `SelvageError` is a defect of ours:
 * its text stays here, for it may hold what the client must not see.
 */
export function toProblem(error: unknown, status?: number): Problem {
  const known = error instanceof SelvageError
    ? error
    : new SelvageError("internal", "an unexpected error inside Selvage");
  const [usual, title] = KINDS[known.code];
  return {
    type: `urn:selvage:problem:${known.code}`,
    title,
    status: status ?? usual,
    detail: known.message,
    code: known.code,
    ...(known.hint === "" ? {} : { hint: known.hint }),
  };
}

/** A response that carries `error`; `status` replaces the usual status of its code. */
export function problemResponse(error: unknown, status?: number): Response {
  const problem = toProblem(error, status);
  const headers: Record<string, string> = {
    "content-type": PROBLEM_MEDIA_TYPE,
    "cache-control": "no-store",
  };
  // RFC 9110 section 11.6.1 asks for a challenge with every 401.
  if (problem.status === 401) headers["www-authenticate"] = 'Bearer realm="selvage"';
  return new Response(`${JSON.stringify(problem)}\n`, { status: problem.status, headers });
}

/** The code that fits a status whose body says nothing we can use. */
function codeOfStatus(status: number): ErrorCode {
  const codes: Record<number, ErrorCode> = {
    400: "invalid_argument",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media",
    501: "unsupported",
    507: "out_of_subnets",
  };
  return codes[status] ?? (status >= 500 ? "unavailable" : "internal");
}

/**
 * The error that a response which is not 2xx stands for. Never throws: a body that is no problem
 * document gives an error that names the status and quotes its beginning.
 */
export function readProblem(status: number, bodyText: string): SelvageError {
  try {
    const body = parseJson(bodyText, "the answer");
    if (typeof body === "object" && body !== null) {
      const { code, detail, hint } = body as Record<string, unknown>;
      if (typeof code === "string" && Object.hasOwn(KINDS, code) && typeof detail === "string") {
        return new SelvageError(code as ErrorCode, detail, {
          hint: typeof hint === "string" ? hint : "",
        });
      }
    }
  } catch {
    // Not JSON: another program answers, or a proxy in between.
  }
  const quoted = bodyText.trim().slice(0, 200);
  const text = `HTTP status ${status}${quoted === "" ? "" : `: ${JSON.stringify(quoted)}`}`;
  return new SelvageError(codeOfStatus(status), text);
}
