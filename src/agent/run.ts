/** `selvage run`: the agent, its API and the signals that end it. */
import { endWithParent } from "../../ffi/process.ts";
import { type ApiListener, listenTcp, listenUnix } from "../api/listener.ts";
import { WatcherPool } from "../api/watch_stream.ts";
import { errorText } from "../errors.ts";
import { IpAddress } from "../net/ip.ts";
import { logger, setUpLog } from "../log.ts";
import { Agent, type Closable } from "./agent.ts";
import type { RunOptions } from "./options.ts";

/** Set by what starts a daemon for a while only, such as the demo. */
export const END_WITH_PARENT = "SELVAGE_END_WITH_PARENT";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

async function listen(agent: Agent, options: RunOptions): Promise<Closable> {
  const watchers = new WatcherPool();
  const listeners: ApiListener[] = [];
  const close = async () => void await Promise.all(listeners.map((one) => one.close()));
  try {
    listeners.push(await listenUnix(agent, options.apiSocket, { watchers }));
    if (options.apiListen !== null) {
      const certificate = await certificateFor(options);
      listeners.push(await listenTcp(agent, options.apiListen, { watchers, ...certificate }));
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
  if (process.env[END_WITH_PARENT] === "1") endWithParent();
  const ending = new AbortController();
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      logger("agent").info`${signal}: ending`;
      ending.abort();
    });
  }
  surviveDefects();
  const agent = new Agent(options, workerUrl);
  await agent.run(ending.signal, () => listen(agent, options));
  return 0;
}
