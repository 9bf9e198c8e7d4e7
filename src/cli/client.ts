/** The command line's side of the API: Hono's typed client over the Unix socket or over TCP. */
import { X509Certificate } from "node:crypto";
import type { Command } from "commander";
import { hc } from "hono/client";
import type { ApiType } from "../api/app.ts";
import { DEFAULTS } from "../agent/options.ts";
import { SelvageError } from "../errors.ts";
import { readFileBounded } from "../files.ts";
import { IpAddress } from "../net/ip.ts";
import { createFetch, type FetchOptions } from "../net/node_fetch.ts";
import { readProblem } from "../net/problem.ts";
import { REGISTRY_NAME } from "../registry/certificate.ts";
import { valueFlag } from "./flags.ts";
import { UsageError } from "./usage_error.ts";
import { nonEmpty } from "./values.ts";

/** How long a call that is no stream may take. */
const CALL_TIMEOUT_MS = 15_000;

/** Where the daemon is asked; what `addClientFlags` gives. */
export interface ClientFlags {
  readonly apiSocket: string;
  readonly api?: string;
  readonly apiCa?: string;
  readonly token?: string;
}

/** The flags of every command that asks the daemon. */
export function addClientFlags(command: Command): Command {
  return command
    .addOption(valueFlag({
      term: "api-socket <path>",
      description: "ask the daemon at this Unix socket",
      env: "selvage",
      parse: nonEmpty,
      default: DEFAULTS.apiSocket,
    }))
    .addOption(valueFlag({
      term: "api <url>",
      description: `ask over TCP instead, such as http://${DEFAULTS.apiListen}`,
      env: "selvage",
      alternative: "api-socket",
      parse: nonEmpty,
    }))
    .addOption(valueFlag({
      term: "api-ca <file>",
      description: "certificate (PEM) that an https:// address must show",
      env: "selvage",
      parse: nonEmpty,
    }))
    .addOption(valueFlag({
      term: "token <secret>",
      description: "API token, for requests over TCP that need one",
      env: "selvage",
      parse: nonEmpty,
    }));
}

function connectError(error: unknown, flags: ClientFlags): unknown {
  if (!(error instanceof SelvageError) || error.code !== "unavailable") return error;
  const code = (error.cause as { code?: unknown } | undefined)?.code;
  if (flags.api !== undefined) {
    return new SelvageError("unavailable", `no selvage answers at ${flags.api}: ${error.message}`, {
      cause: error,
      hint: "Is `selvage run` running there, with --api-listen at this address?",
    });
  }
  const place = flags.apiSocket;
  if (code === "EACCES" || code === "EPERM") {
    return new SelvageError("permission", `API socket ${place}: permission denied`, {
      cause: error,
      hint: "Run this as the user who runs `selvage run`, usually root.",
    });
  }
  const dead = code === "ECONNREFUSED";
  return new SelvageError(
    "unavailable",
    dead ? `no daemon answers at the socket ${place}` : `no socket at ${place}`,
    { cause: error, hint: "Is `selvage run` running? --api-socket names another place." },
  );
}

/** The PEM text of `--api-ca`. Throws `invalid_argument`, which quotes nothing of another file. */
function readAuthority(path: string): string {
  const pem = readFileBounded(path);
  try {
    if (!pem.includes("-----BEGIN CERTIFICATE-----")) throw new Error("no PEM");
    new X509Certificate(pem);
    return pem;
  } catch (error) {
    throw new SelvageError("invalid_argument", `--api-ca ${path}: it holds no PEM certificate`, {
      hint: "Give the file registry.crt of the daemon's state directory.",
      cause: error,
    });
  }
}

/** The base URL and how to reach it. Throws `UsageError` for a URL that will not do. */
function target(flags: ClientFlags): { base: string; fetchOptions: FetchOptions } {
  if (flags.api === undefined) {
    return { base: "http://localhost", fetchOptions: { socketPath: flags.apiSocket } };
  }
  let url: URL;
  try {
    url = new URL(flags.api);
  } catch {
    throw new UsageError(`--api ${JSON.stringify(flags.api)}: not a URL`);
  }
  if (url.protocol === "https:") {
    if (flags.apiCa === undefined) return { base: url.origin, fetchOptions: {} };
    // The daemon's certificate is its own authority, and named the same on every host.
    const tls = { ca: readAuthority(flags.apiCa), servername: REGISTRY_NAME };
    return { base: url.origin, fetchOptions: { tls } };
  }
  if (url.protocol !== "http:") {
    throw new UsageError(`--api ${JSON.stringify(flags.api)}: must be http:// or https://`);
  }
  if (flags.token !== undefined && !isLoopbackHost(url.hostname)) {
    throw new UsageError(
      `--api ${JSON.stringify(flags.api)}: a token is not sent unencrypted to another host`,
      "Use https://, or ask over the Unix socket on the host itself.",
    );
  }
  return { base: url.origin, fetchOptions: {} };
}

function isLoopbackHost(hostname: string): boolean {
  if (hostname === "localhost") return true;
  try {
    return IpAddress.parse(hostname.replace(/^\[|\]$/g, "")).isLoopback();
  } catch {
    return false;
  }
}

/**
 * The typed client. Its calls reject with `unavailable` or `permission`, worded for the user, when
 * the daemon cannot be reached. A call without a signal of its own ends after 15 s.
 */
export function openClient(flags: ClientFlags) {
  const { base, fetchOptions } = target(flags);
  const plain = createFetch(fetchOptions);
  const fetch = async (input: URL | Request | string, init?: RequestInit): Promise<Response> => {
    const timeout = AbortSignal.timeout(CALL_TIMEOUT_MS);
    try {
      return await plain(input, { ...init, signal: init?.signal ?? timeout });
    } catch (error) {
      if (!timeout.aborted || init?.signal) throw connectError(error, flags);
      throw new SelvageError("unavailable", "selvage did not answer within 15 s", { cause: error });
    }
  };
  const headers: Record<string, string> = flags.token === undefined
    ? {}
    : { authorization: `Bearer ${flags.token}` };
  return hc<ApiType>(base, { fetch, headers });
}

interface ApiResponse {
  readonly ok: boolean;
  readonly status: number;
  text(): Promise<string>;
}

/** The response if it is 2xx; otherwise throws the error that its problem document describes. */
export async function succeeded<R extends ApiResponse>(pending: Promise<R>): Promise<R> {
  const response = await pending;
  if (response.ok) return response;
  throw readProblem(response.status, await response.text());
}
