/** `selvage run`: the agent, its API and the signals that end it. */
import { endWithParent } from "../../ffi/process.ts";
import { errorText } from "../errors.ts";
import { logger, setUpLog } from "../log.ts";
import { Agent } from "./agent.ts";
import { AgentListeners } from "./listeners.ts";
import { END_WITH_PARENT, type RunOptions } from "./options.ts";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** A defect of ours must not take the data plane down with it: it is logged, and we go on. */
function surviveDefects(): void {
  const log = logger("defect");
  // Else the runtime writes it past the log, in a form of its own.
  process.on("warning", ({ name, message }) => log.warning`${name}: ${message}`);
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
  await agent.run(ending.signal, () => AgentListeners.open(agent.control, options));
  return 0;
}
