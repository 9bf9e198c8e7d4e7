/** `selvage run`: the agent, its API and the signals that end it. */
import { endWithParent } from "../../ffi/process.ts";
import type { AgentControl } from "../api/control.ts";
import { listenHealth } from "../api/health.ts";
import { type ApiListener, listenTcp, listenUnix } from "../api/listener.ts";
import { WatcherPool } from "../api/watch_stream.ts";
import { errorText } from "../errors.ts";
import { IpAddress } from "../net/ip.ts";
import { logger, setUpLog } from "../log.ts";
import { Agent, type Closable } from "./agent.ts";
import { END_WITH_PARENT, type RunOptions } from "./options.ts";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** Each is a watch of the store, which may be another host's. */
const TCP_WATCHER_COUNT_MAX = 16;

async function listen(control: AgentControl, options: RunOptions): Promise<Closable> {
  const listeners: ApiListener[] = [];
  const close = async () => void await Promise.all(listeners.map((one) => one.close()));
  try {
    listeners.push(await listenUnix(control, options.apiSocket, { watchers: new WatcherPool() }));
    if (options.apiListen !== null) {
      const certificate = await certificateFor(options);
      // A pool of its own: who has no rights cannot take the places of who has.
      const watchers = new WatcherPool(TCP_WATCHER_COUNT_MAX);
      listeners.push(await listenTcp(control, options.apiListen, { watchers, ...certificate }));
    }
    if (options.healthListen !== null) {
      listeners.push(await listenHealth(control, options.healthListen));
    }
    logger("api").info`listening at ${listeners.map((one) => one.location).join(" and ")}`;
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Beyond loopback the API is served with TLS alone. */
async function certificateFor(options: RunOptions) {
  if (IpAddress.parse(options.apiListen!.host, "--api-listen").isLoopback()) return {};
  const { ensureCertificate } = await import("../registry/certificate.ts");
  const { certificatePem, privateKeyPem } = await ensureCertificate(options.stateDir);
  return { certificate: { cert: certificatePem, key: privateKeyPem } };
}

/** A defect of ours must not take the data plane down with it: it is logged, and we go on. */
function surviveDefects(): void {
  const log = logger("defect");
  process.on("uncaughtException", (error) => log.error`uncaught: ${errorText(error)}`);
  process.on("unhandledRejection", (reason) => log.error`unhandled: ${errorText(reason)}`);
}

/**
 * Runs until a signal ends it. Resolves with the exit status; rejects if it cannot start.
 * `workerUrl` is the entry point of the packet loops' worker.
 */
export async function runAgent(options: RunOptions, workerUrl: URL): Promise<number> {
  await setUpLog(options.logLevel);
  const parentPid = process.env[END_WITH_PARENT];
  if (parentPid !== undefined) endWithParent(Number(parentPid));
  const ending = new AbortController();
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      logger("agent").info`${signal}: ending`;
      ending.abort();
    });
  }
  surviveDefects();
  for (const notice of options.notices) logger("agent").warning`${notice}`;
  const agent = new Agent(options, workerUrl);
  await agent.run(ending.signal, () => listen(agent.control, options));
  return 0;
}
