/** Where the API listens: a Unix socket with all of it, and TCP with what its guard lets pass. */
import { createServer, type Server, type ServerOptions } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { errorText, SelvageError } from "../errors.ts";
import { logger } from "../log.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { IpAddress } from "../net/ip.ts";
import { problemResponse, toProblem } from "../net/problem.ts";
import { createApi } from "./app.ts";
import type { AgentControl } from "./control.ts";
import { type GuardOptions, isLoopbackAuthority } from "./guard.ts";
import { placeSocket } from "./socket_path.ts";
import type { WatcherPool } from "./watch_stream.ts";

/** What one client may take of a listener. */
export interface ListenerLimits {
  readonly connection_count_max: number;
  /** From the connection to the end of the request's header. */
  readonly header_timeout_ms: number;
  /** From the connection to the end of the request's body. */
  readonly request_timeout_ms: number;
  readonly keepAlive_timeout_ms: number;
  readonly header_size_max_bytes: number;
  /** How long running requests may go on when the listener closes. */
  readonly close_grace_ms: number;
}

export const LISTENER_LIMITS: ListenerLimits = {
  connection_count_max: 128,
  header_timeout_ms: 10_000,
  request_timeout_ms: 20_000,
  keepAlive_timeout_ms: 5_000,
  header_size_max_bytes: 16 * 1024,
  close_grace_ms: 1_000,
};

export interface ListenOptions {
  readonly watchers: WatcherPool;
  readonly limits?: Partial<ListenerLimits>;
}

/** The certificate and key of a TLS listener, in PEM. */
export interface ListenerCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface ApiListener {
  /** The socket's path, or the URL's origin with the real port. */
  readonly location: string;
  /** The port of a TCP listener; null for a socket. */
  readonly port: number | null;
  /** Ends the watch streams, lets requests finish within the grace, frees the address. */
  close(): Promise<void>;
}

/** The answer to what is no HTTP, or too slow or too long: Node parses these, not the app. */
function onClientError(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const slow = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
  const large = error.code === "HPE_HEADER_OVERFLOW";
  const status = slow ? 408 : large ? 431 : 400;
  const reason = slow ? "the request took too long" : large ? "header too large" : "not HTTP/1.1";
  const code = large ? "too_large" : "invalid_argument";
  const body = `${JSON.stringify(toProblem(new SelvageError(code, reason), status))}\n`;
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nConnection: close\r\n` +
      `Content-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `\r\n${body}`,
    () => socket.destroy(),
  );
}

function makeServer(
  fetch: (request: Request) => Response | Promise<Response>,
  limits: ListenerLimits,
  certificate: ListenerCertificate | null,
): Server {
  const serverOptions: ServerOptions = {
    headersTimeout: limits.header_timeout_ms,
    requestTimeout: limits.request_timeout_ms,
    keepAliveTimeout: limits.keepAlive_timeout_ms,
    connectionsCheckingInterval: Math.min(1_000, limits.header_timeout_ms),
    maxHeaderSize: limits.header_size_max_bytes,
    // Notices a watching client whose host is gone.
    keepAlive: true,
  };
  const listener = getRequestListener((request) => fetch(request), {
    hostname: "localhost",
    overrideGlobalObjects: false,
    errorHandler: (error) => {
      // The adapter's own refusals, such as a Host header that is no authority.
      logger("api").debug("request refused: {error}", { error: errorText(error) });
      return problemResponse(new SelvageError("invalid_argument", "not a valid request"));
    },
  });
  const server = certificate === null
    ? createServer(serverOptions, listener)
    : createTlsServer({ ...serverOptions, ...certificate, minVersion: "TLSv1.2" }, listener);
  server.maxConnections = limits.connection_count_max;
  server.on("clientError", onClientError);
  return server as Server;
}

/** Listens, or rejects with the system's error. Later errors of the server are only logged. */
function listen(server: Server, where: { path: string } | HostPort): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      server.on("error", (error) => {
        logger("api").warn("listener: {error}", { error: errorText(error) });
      });
      resolve();
    });
  });
}

async function closeServer(server: Server, shutdown: AbortController, grace_ms: number) {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  shutdown.abort();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), grace_ms);
  await closed;
  clearTimeout(timer);
}

/** Serves the whole API at a Unix socket of mode 0600. Throws what `placeSocket` throws. */
export async function listenUnix(
  control: AgentControl,
  path: string,
  options: ListenOptions,
): Promise<ApiListener> {
  const limits = { ...LISTENER_LIMITS, ...options.limits };
  const shutdown = new AbortController();
  const { watchers } = options;
  const api = createApi(control, { guard: null, shutdown: shutdown.signal, watchers });
  const server = makeServer((request) => api.fetch(request), limits, null);
  const placed = await placeSocket(path, (bindPath) => listen(server, { path: bindPath }))
    .catch((error) => {
      server.close();
      throw error;
    });
  return {
    location: placed.path,
    port: null,
    async close() {
      placed.remove();
      await closeServer(server, shutdown, limits.close_grace_ms);
    },
  };
}

/** `where` with what it is, such as `API address 127.0.0.1:8285`; `hint`: how to choose another. */
function listenError(where: string, hint: string, cause: unknown): SelvageError {
  const code = (cause as { code?: unknown }).code;
  if (code === "EADDRINUSE") {
    return new SelvageError("conflict", `${where} is in use`, { cause, hint });
  }
  if (code === "EADDRNOTAVAIL") {
    return new SelvageError("invalid_argument", `${where}: this host does not have it`, {
      cause,
      hint,
    });
  }
  if (code === "EACCES" || code === "EPERM") {
    return new SelvageError("permission", `${where}: permission denied`, {
      cause,
      hint: "Ports below 1024 need root.",
    });
  }
  return new SelvageError("unavailable", `${where}: ${errorText(cause)}`, { cause });
}

/** What is served without TLS, wherever it is asked for. */
export interface PlainListenOptions {
  /** What the address is, for errors, and how to choose another. */
  readonly what: string;
  readonly hint: string;
  readonly limits: ListenerLimits;
}

/** Serves `fetch` over plain HTTP. Throws `conflict` if the address is in use. */
export async function listenPlain(
  fetch: (request: Request) => Response,
  where: HostPort,
  { what, hint, limits }: PlainListenOptions,
): Promise<ApiListener> {
  const server = makeServer(fetch, limits, null);
  await listen(server, where).catch((error) => {
    throw listenError(`${what} ${formatHostPort(where)}`, hint, error);
  });
  const { port } = server.address() as AddressInfo;
  return {
    location: `http://${formatHostPort({ host: where.host, port })}`,
    port,
    close: () => closeServer(server, new AbortController(), limits.close_grace_ms),
  };
}

/**
 * Serves the API over TCP. On a loopback address: reading for all, changing with an API token.
 * On any other: TLS with `certificate`, and a token for everything; without a certificate it
 * throws `invalid_argument`. Throws `conflict` if the address is in use.
 */
export async function listenTcp(
  control: AgentControl,
  where: HostPort,
  options: ListenOptions & { readonly certificate?: ListenerCertificate },
): Promise<ApiListener> {
  const address = IpAddress.parse(where.host, "API address");
  const certificate = options.certificate ?? null;
  const loopback = address.isLoopback();
  const shown = formatHostPort(where);
  if (!loopback && certificate === null) {
    throw new SelvageError("invalid_argument", `API address ${shown}: beyond loopback needs TLS`, {
      hint: "Listen on 127.0.0.1, or on a host that has the registry's certificate.",
    });
  }
  let port = where.port;
  const limits = { ...LISTENER_LIMITS, ...options.limits };
  const shutdown = new AbortController();
  const rules: GuardOptions = {
    scheme: certificate === null ? "http" : "https",
    isOurHost: loopback ? (authority) => isLoopbackAuthority(authority, port) : null,
    tokenFor: loopback ? "changes" : "everything",
    verify: (bearer) => control.tokens.verify(bearer),
  };
  const { watchers } = options;
  const api = createApi(control, { guard: rules, shutdown: shutdown.signal, watchers });
  const server = makeServer((request) => api.fetch(request), limits, certificate);
  await listen(server, where).catch((error) => {
    const hint = "Choose another with --api-listen ADDR:PORT, or turn it off: --api-listen=off.";
    throw listenError(`API address ${shown}`, hint, error);
  });
  port = (server.address() as AddressInfo).port;
  return {
    location: `${rules.scheme}://${formatHostPort({ host: where.host, port })}`,
    port,
    close: () => closeServer(server, shutdown, limits.close_grace_ms),
  };
}
