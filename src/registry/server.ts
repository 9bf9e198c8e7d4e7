/** The registry's TLS listener. */
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { errorText, SelvageError } from "../errors.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { problemResponse } from "../net/problem.ts";
import type { EmbeddedStore } from "../store/embedded_store.ts";
import { createRegistryApp } from "./app.ts";
import type { RegistryCertificate } from "./certificate.ts";
import type { TokenStore } from "./tokens.ts";
import { WatchStreams } from "./watch_streams.ts";
import { HEARTBEAT_MS } from "./wire.ts";

/** What clients may take of the registry. */
export interface RegistryLimits {
  readonly watcherCountMax: number;
  /** Connections beside those of watchers. */
  readonly connectionCountMax: number;
  readonly heartbeat_ms: number;
  /** A watching client that has not read for so long loses its connection. */
  readonly stall_ms: number;
  /** From the connection to the end of the TLS handshake, and to the end of a request's header. */
  readonly headerTimeout_ms: number;
  /** To the end of a request's body. */
  readonly requestTimeout_ms: number;
  readonly keepAliveTimeout_ms: number;
  /** How long running requests may go on when the server closes. */
  readonly closeGrace_ms: number;
}

/** Enough for ten thousand hosts. */
export const REGISTRY_LIMITS: RegistryLimits = {
  watcherCountMax: 10_000,
  connectionCountMax: 2_000,
  heartbeat_ms: HEARTBEAT_MS,
  stall_ms: 60_000,
  headerTimeout_ms: 10_000,
  requestTimeout_ms: 20_000,
  keepAliveTimeout_ms: 60_000,
  closeGrace_ms: 1_000,
};

/** Where to listen, and what to serve. */
export interface RegistryServerOptions {
  readonly listen: HostPort;
  readonly store: EmbeddedStore;
  readonly tokens: TokenStore;
  readonly certificate: RegistryCertificate;
  readonly limits?: Partial<RegistryLimits>;
}

/** A registry that listens. */
export interface RegistryServer {
  /** ADDRESS:PORT with the real port. */
  readonly location: string;
  readonly port: number;
  /** Of its certificate, for the join string. */
  readonly fingerprint: string;
  /** How many hosts watch. */
  readonly watcherCount: number;
  /** Ends the watch streams, lets requests finish within the grace, frees the address. */
  close(): Promise<void>;
}

function listenError(where: string, error: unknown): SelvageError {
  const code = (error as { code?: unknown }).code;
  const hint = "Choose another with --registry-listen ADDR:PORT.";
  const options = { cause: error, hint };
  if (code === "EADDRINUSE") {
    return new SelvageError("conflict", `registry address ${where} is in use`, options);
  }
  // Deno says EINVAL.
  if (code === "EADDRNOTAVAIL" || code === "EINVAL") {
    const text = `registry address ${where}: this host does not have it`;
    return new SelvageError("invalid_argument", text, options);
  }
  if (code === "EACCES" || code === "EPERM") {
    return new SelvageError("permission", `registry address ${where}: permission denied`, options);
  }
  return new SelvageError("unavailable", `registry address ${where}: ${errorText(error)}`, options);
}

function makeServer(
  fetch: Parameters<typeof getRequestListener>[0],
  certificate: RegistryCertificate,
  limits: RegistryLimits,
): Server {
  const listener = getRequestListener(fetch, {
    hostname: "localhost",
    overrideGlobalObjects: false,
    // The adapter's own refusals, such as a Host header that is no authority.
    errorHandler: () => problemResponse(new SelvageError("invalid_argument", "no valid request")),
  });
  const server = createServer({
    cert: certificate.certificatePem,
    key: certificate.privateKeyPem,
    minVersion: "TLSv1.3",
    handshakeTimeout: limits.headerTimeout_ms,
    headersTimeout: limits.headerTimeout_ms,
    requestTimeout: limits.requestTimeout_ms,
    connectionsCheckingInterval: Math.min(1_000, limits.headerTimeout_ms),
    keepAliveTimeout: limits.keepAliveTimeout_ms,
    maxHeaderSize: 16 * 1024,
    // Notices a watching client whose host is gone.
    keepAlive: true,
  }, listener);
  boundConnections(server, limits.watcherCountMax + limits.connectionCountMax);
  // A client that breaks off its handshake is nothing to die of.
  server.on("tlsClientError", () => {});
  return server;
}

/** Past `countMax` connections, new ones are closed at once. */
function boundConnections(server: Server, countMax: number): void {
  server.maxConnections = countMax;
  // Bun does not keep to that property.
  let count = 0;
  server.on("secureConnection", (socket) => {
    count++;
    socket.once("close", () => count--);
    if (count > countMax) socket.destroy();
  });
}

/** Resolves once it listens; rejects with the system's error. */
function listen(server: Server, where: HostPort): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: where.host, port: where.port }, () => {
      server.off("error", reject);
      // One connection that could not be accepted does not end the others.
      server.on("error", () => {});
      resolve();
    });
  });
}

async function closeServer(server: Server, grace_ms: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), grace_ms);
  await closed;
  clearTimeout(timer);
}

/**
 * Serves the store to the hosts that joined. Store and tokens stay the caller's. Throws
 * `conflict` if the address is in use, `invalid_argument` if this host does not have it,
 * `permission` if it may not listen there.
 */
export async function listenRegistry(options: RegistryServerOptions): Promise<RegistryServer> {
  const limits = { ...REGISTRY_LIMITS, ...options.limits };
  const { store, tokens, certificate } = options;
  const streams = new WatchStreams(store, tokens, {
    heartbeat_ms: limits.heartbeat_ms,
    countMax: limits.watcherCountMax,
    stall_ms: limits.stall_ms,
  });
  const app = createRegistryApp({ store, tokens, streams });
  const server = makeServer(
    (request, env) => app.fetch(request, env as never),
    certificate,
    limits,
  );
  try {
    await listen(server, options.listen);
  } catch (error) {
    streams.close();
    throw listenError(formatHostPort(options.listen), error);
  }
  const { port } = server.address() as AddressInfo;
  return {
    location: formatHostPort({ host: options.listen.host, port }),
    port,
    fingerprint: certificate.fingerprint,
    get watcherCount() {
      return streams.count;
    },
    async close() {
      // Nobody new is taken before those who watch are let go: they would be back at once.
      const closed = closeServer(server, limits.closeGrace_ms);
      streams.close();
      await closed;
    },
  };
}
