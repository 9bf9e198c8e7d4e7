/**
 * Where the agent's API and its health server listen. The Unix socket must be there, because an
 * operator controls this host through it. The TCP listeners are not necessary: another program that
 * uses their port must not stop the daemon. So a listener that cannot be opened is reported and
 * tried again.
 */
import type { AgentControl } from "../api/control.ts";
import { listenHealth } from "../api/health.ts";
import { type ApiListener, listenTcp, listenUnix } from "../api/listener.ts";
import { WatcherPool } from "../api/watch_stream.ts";
import { adviceText } from "../errors.ts";
import { logger } from "../log.ts";
import { IpAddress } from "../net/ip.ts";
import { Backoff } from "../retry.ts";
import type { RunOptions } from "./options.ts";
import type { ListenerStatus } from "./status.ts";

/** Each is a watch of the store, which may be another host's. */
const TCP_WATCHER_COUNT_MAX = 16;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;

type ListenerName = ListenerStatus["name"];

/** One TCP listener, and why it does not listen. */
class RetriedListener {
  readonly #backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  #opening: Promise<void> = Promise.resolve();
  listener: ApiListener | null = null;
  problem: string | null = null;

  constructor(readonly name: ListenerName, readonly open: () => Promise<ApiListener>) {}

  /** Tries once, and then again after pauses until it listens. Never rejects. */
  start(): Promise<void> {
    return this.#opening = this.#try();
  }

  async #try(): Promise<void> {
    const log = logger("api");
    try {
      const listener = await this.open();
      if (this.#isClosed) return await listener.close();
      this.listener = listener;
      this.problem = null;
      log.info`listening at ${listener.location}`;
    } catch (error) {
      if (this.#isClosed) return;
      const problem = `${
        adviceText(error)
      } Selvage tries again; until then nothing is served there.`;
      if (problem !== this.problem) log.warning`${problem}`;
      this.problem = problem;
      this.#timer = setTimeout(() => void this.start(), this.#backoff.next_ms());
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#opening;
    await this.listener?.close();
  }
}

/** Beyond loopback the API is served with TLS alone. */
async function certificateFor(options: RunOptions) {
  if (IpAddress.parse(options.apiListen!.host, "--api-listen").isLoopback()) return {};
  const { ensureCertificate } = await import("../registry/certificate.ts");
  const { certificatePem, privateKeyPem } = await ensureCertificate(options.stateDir);
  return { certificate: { cert: certificatePem, key: privateKeyPem } };
}

export class AgentListeners {
  readonly #socket: ApiListener;
  readonly #tcp: readonly RetriedListener[];

  private constructor(socket: ApiListener, tcp: readonly RetriedListener[]) {
    this.#socket = socket;
    this.#tcp = tcp;
  }

  /** Throws what `listenUnix` throws; what TCP lacks is in `problems`. */
  static async open(control: AgentControl, options: RunOptions): Promise<AgentListeners> {
    const socket = await listenUnix(control, options.apiSocket, { watchers: new WatcherPool() });
    logger("api").info`listening at ${socket.location}`;
    const tcp: RetriedListener[] = [];
    const { apiListen, healthListen } = options;
    if (apiListen !== null) {
      // A pool of its own, so that clients without rights cannot use up the connections of the
      // others.
      const watchers = new WatcherPool(TCP_WATCHER_COUNT_MAX);
      const open = async () => {
        const certificate = await certificateFor(options);
        return await listenTcp(control, apiListen, { watchers, ...certificate });
      };
      tcp.push(new RetriedListener("api", open));
    }
    if (healthListen !== null) {
      tcp.push(new RetriedListener("health", () => listenHealth(control, healthListen)));
    }
    for (const listener of tcp) await listener.start();
    return new AgentListeners(socket, tcp);
  }

  /** One sentence for each listener that does not listen. */
  get problems(): string[] {
    return this.#tcp.map(({ problem }) => problem).filter((problem) => problem !== null);
  }

  get status(): ListenerStatus[] {
    const tcp = this.#tcp.flatMap(({ name, listener }) => {
      return listener === null ? [] : [{ name, location: listener.location, ...listener.load }];
    });
    return [{ name: "socket", location: this.#socket.location, ...this.#socket.load }, ...tcp];
  }

  async close(): Promise<void> {
    await Promise.all([this.#socket, ...this.#tcp].map((one) => one.close()));
  }
}
