/** The registry's TLS listener. */
import { readFileSync } from "node:fs";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { type HttpLimits, HttpServer, type ListenerLoad } from "../net/http_server.ts";
import { REFUSAL_DELAY_MAX_MS } from "../net/refusals.ts";
import type { EmbeddedStore } from "../store/embedded_store.ts";
import { createRegistryApp } from "./app.ts";
import type { RegistryCertificate } from "./certificate.ts";
import { registryListenError, resolveListenAddress } from "./listen_address.ts";
import type { TokenStore } from "./tokens.ts";
import { WatchStreams } from "./watch_streams.ts";
import { HEARTBEAT_MS } from "./wire.ts";

/** What clients may take of the registry. */
export interface RegistryLimits extends Omit<HttpLimits, "countMax"> {
  readonly watcherCountMax: number;
  /** Connections beside those of watchers. */
  readonly connectionCountMax: number;
  readonly heartbeat_ms: number;
  /** A watching client that has not read for so long loses its connection. */
  readonly stall_ms: number;
}

/** Enough for ten thousand hosts. */
export const REGISTRY_LIMITS: RegistryLimits = {
  watcherCountMax: 10_000,
  connectionCountMax: 3_000,
  heartbeat_ms: HEARTBEAT_MS,
  stall_ms: 60_000,
  unprovenCountMax: 2_048,
  // Hosts behind one address that come back at the same time, as after a restart, are let in
  // this many at a time; the others try again.
  unprovenPerSourceMax: 1_024,
  shedAgeMin_ms: 3_000,
  shedPerSecondMax: 100,
  headerTimeout_ms: 10_000,
  requestTimeout_ms: 20_000,
  keepAliveTimeout_ms: 60_000,
  stallTimeout_ms: 60_000,
  unprovenTimeout_ms: 30_000,
  refusalDelayMax_ms: REFUSAL_DELAY_MAX_MS,
  headerSizeMax_bytes: 16 * 1024,
  closeGrace_ms: 1_000,
};

/** Descriptors for everything but the registry's connections: the API, files, tunnels, netlink. */
const DESCRIPTOR_RESERVE = 512;
/** Of the connections, those that are not for watchers. */
const SHORT_SHARE = 1 / 6;
const CONNECTION_COUNT_MIN = 64;

/** How many files this process may have open (`proc_pid_limits(5)`). */
function descriptorLimit(): number {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return Number(limit ?? Infinity);
  } catch {
    return Infinity;
  }
}

/** The limits as far as the process's limit of open files allows them. */
function fitDescriptors(limits: RegistryLimits): RegistryLimits {
  const room = Math.max(CONNECTION_COUNT_MIN, descriptorLimit() - DESCRIPTOR_RESERVE);
  if (room >= limits.watcherCountMax + limits.connectionCountMax) return limits;
  const connectionCountMax = Math.ceil(room * SHORT_SHARE);
  const watcherCountMax = room - connectionCountMax;
  const advice = "raise it with LimitNOFILE= of the service, or ulimit -n";
  logger("registry")
    .warning`the limit of open files leaves room for only ${watcherCountMax} hosts: ${advice}`;
  const unprovenCountMax = Math.min(limits.unprovenCountMax, connectionCountMax);
  return { ...limits, connectionCountMax, watcherCountMax, unprovenCountMax };
}

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
  readonly load: ListenerLoad;
  /** Ends the watch streams, lets requests finish within the grace, frees the address. */
  close(): Promise<void>;
}

/**
 * Serves the store to the hosts that joined. Store and tokens stay the caller's. Throws
 * `conflict` if the address is in use, `invalid_argument` if this host does not have it,
 * `permission` if it may not listen there.
 */
export async function listenRegistry(options: RegistryServerOptions): Promise<RegistryServer> {
  const limits = fitDescriptors({ ...REGISTRY_LIMITS, ...options.limits });
  const { store, tokens, certificate } = options;
  const streams = new WatchStreams(store, tokens, {
    heartbeat_ms: limits.heartbeat_ms,
    countMax: limits.watcherCountMax,
    stall_ms: limits.stall_ms,
  });
  const app = createRegistryApp({ store, tokens, streams });
  const server = new HttpServer({
    fetch: (request, context) => app.fetch(request, context),
    certificate: {
      cert: certificate.certificatePem,
      key: certificate.privateKeyPem,
      minVersion: "TLSv1.3",
    },
    limits: { ...limits, countMax: limits.watcherCountMax + limits.connectionCountMax },
    // Without a token every request is refused.
    provesClient: (response) => response.ok,
    onError: (error) => logger("registry").debug("listener: {error}", { error: errorText(error) }),
    onWarning: (text) => logger("registry").warning`${text}`,
  });
  try {
    await server.listen({ ...await resolveListenAddress(options.listen) });
  } catch (error) {
    streams.close();
    throw registryListenError(options.listen, error);
  }
  const { port } = server;
  return {
    location: formatHostPort({ host: options.listen.host, port }),
    port,
    fingerprint: certificate.fingerprint,
    get watcherCount() {
      return streams.count;
    },
    get load() {
      return server.load;
    },
    async close() {
      // Nobody new is taken before those who watch are let go: they would be back at once.
      const closed = server.close();
      streams.close();
      await closed;
    },
  };
}
