/** Where the API listens: a Unix socket with all of it, and TCP with what its guard lets pass. */
import { errorText, SelvageError } from "../errors.ts";
import { logger } from "../log.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { type HttpLimits, HttpServer, type ListenerLoad } from "../net/http_server.ts";
import { REFUSAL_DELAY_MAX_MS } from "../net/refusals.ts";
import { IpAddress } from "../net/ip.ts";
import { portHolderText } from "../port_holder.ts";
import { createApi } from "./app.ts";
import type { AgentControl } from "./control.ts";
import { type GuardOptions, isLoopbackAuthority } from "./guard.ts";
import { placeSocket } from "./socket_path.ts";
import { WATCH_MEDIA_TYPE, type WatcherPool } from "./watch_stream.ts";

/** What clients may take of a listener. */
export const LISTENER_LIMITS: HttpLimits = {
  countMax: 128,
  // The rest is for those that have shown a token, or that watch.
  unprovenCountMax: 96,
  unprovenPerSourceMax: 32,
  shedAgeMin_ms: 1_000,
  shedPerSecondMax: 100,
  headerTimeout_ms: 10_000,
  requestTimeout_ms: 20_000,
  keepAliveTimeout_ms: 5_000,
  stallTimeout_ms: 30_000,
  unprovenTimeout_ms: 30_000,
  refusalDelayMax_ms: REFUSAL_DELAY_MAX_MS,
  headerSizeMax_bytes: 16 * 1024,
  closeGrace_ms: 1_000,
};

/** On loopback all clients have one address, and no TLS state to pay for. */
const LOOPBACK_LIMITS: HttpLimits = {
  ...LISTENER_LIMITS,
  unprovenPerSourceMax: LISTENER_LIMITS.unprovenCountMax,
  shedAgeMin_ms: 0,
  shedPerSecondMax: 10_000,
};

/** Only the owner can open the Unix socket, so no client of it is a stranger. */
const SOCKET_LIMITS: HttpLimits = {
  ...LISTENER_LIMITS,
  unprovenCountMax: LISTENER_LIMITS.countMax,
  unprovenPerSourceMax: LISTENER_LIMITS.countMax,
};

export interface ListenOptions {
  readonly watchers: WatcherPool;
  readonly limits?: Partial<HttpLimits>;
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
  readonly load: ListenerLoad;
  /** Ends the watch streams, lets requests finish within the grace, frees the address. */
  close(): Promise<void>;
}

function onError(error: unknown): void {
  logger("api").debug("listener: {error}", { error: errorText(error) });
}

function onWarning(text: string): void {
  logger("api").warning`${text}`;
}

/** A watch is held for long, and the pool of watchers bounds how many there are. */
function isWatch(response: Response): boolean {
  return response.ok && response.headers.get("content-type") === WATCH_MEDIA_TYPE;
}

/** Serves the whole API at a Unix socket of mode 0600. Throws what `placeSocket` throws. */
export async function listenUnix(
  control: AgentControl,
  path: string,
  options: ListenOptions,
): Promise<ApiListener> {
  const shutdown = new AbortController();
  const { watchers } = options;
  const api = createApi(control, { guard: null, shutdown: shutdown.signal, watchers });
  const server = new HttpServer({
    fetch: (request) => api.fetch(request),
    certificate: null,
    limits: { ...SOCKET_LIMITS, ...options.limits },
    // A client that may open the socket may do everything.
    provesClient: () => true,
    onError,
    onWarning,
  });
  const placed = await placeSocket(path, (bindPath) => server.listen({ path: bindPath }))
    .catch(async (error) => {
      await server.close();
      throw error;
    });
  return {
    location: placed.path,
    port: null,
    get load() {
      return server.load;
    },
    async close() {
      placed.remove();
      shutdown.abort();
      await server.close();
    },
  };
}

/** `what` says what the address is for, such as `API address`; `hint`: how to choose another. */
function listenError(what: string, place: HostPort, hint: string, cause: unknown): SelvageError {
  const where = `${what} ${formatHostPort(place)}`;
  const code = (cause as { code?: unknown }).code;
  if (code === "EADDRINUSE") {
    const holder = portHolderText("tcp", IpAddress.parse(place.host), place.port);
    return new SelvageError("conflict", `${where} is in use${holder}`, { cause, hint });
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
  readonly limits: HttpLimits;
}

/** Serves `fetch` over plain HTTP. Throws `conflict` if the address is in use. */
export async function listenPlain(
  fetch: (request: Request) => Response,
  where: HostPort,
  { what, hint, limits }: PlainListenOptions,
): Promise<ApiListener> {
  const server = new HttpServer({
    fetch,
    certificate: null,
    limits,
    provesClient: () => false,
    onError,
    onWarning,
  });
  await server.listen({ ...where }).catch((error) => {
    throw listenError(what, where, hint, error);
  });
  const { port } = server;
  return {
    location: `http://${formatHostPort({ host: where.host, port })}`,
    port,
    get load() {
      return server.load;
    },
    close: () => server.close(),
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
  const limits = { ...(loopback ? LOOPBACK_LIMITS : LISTENER_LIMITS), ...options.limits };
  const shutdown = new AbortController();
  const rules: GuardOptions = {
    scheme: certificate === null ? "http" : "https",
    isOurHost: loopback ? (authority) => isLoopbackAuthority(authority, port) : null,
    tokenFor: loopback ? "changes" : "everything",
    verify: (bearer) => control.tokens.verify(bearer),
    onRevoked: (bearer, listener) => control.tokens.onRevoked(bearer, listener),
  };
  const { watchers } = options;
  const api = createApi(control, { guard: rules, shutdown: shutdown.signal, watchers });
  const server = new HttpServer({
    fetch: (request) => api.fetch(request),
    certificate: certificate && { ...certificate, minVersion: "TLSv1.2" },
    limits,
    provesClient: loopback ? isWatch : (response) => response.ok,
    onError,
    onWarning,
  });
  await server.listen({ ...where }).catch((error) => {
    const hint = "Choose another with --api-listen ADDR:PORT, or turn it off: --api-listen=off.";
    throw listenError("API address", where, hint, error);
  });
  port = server.port;
  return {
    location: `${rules.scheme}://${formatHostPort({ host: where.host, port })}`,
    port,
    get load() {
      return server.load;
    },
    async close() {
      shutdown.abort();
      await server.close();
    },
  };
}
