/** The entry point. It alone knows its own URL, by which workers and children are started. */
import { calledName, startAnew } from "../ffi/self_command.ts";
import { FLANNELD } from "./cli/commands/flanneld.ts";
import { runCli } from "./cli/program.ts";
import { maskSecrets, restoreSecrets, SECRETS_VARIABLE } from "./cli/secrets.ts";
import { PROBE_COMMAND } from "./demo/probe_protocol.ts";
import { VERSION } from "./version.ts";

const WORKER_URL = new URL("./dataplane/worker.ts", import.meta.url);

/** Runs one command line and resolves with the exit status. */
async function main(args: string[]): Promise<number> {
  if (args[0] === PROBE_COMMAND) {
    const { runProbe } = await import("./demo/probe.ts");
    return await runProbe();
  }
  const isFlanneld = calledName() === FLANNELD;
  return await runCli(isFlanneld ? [FLANNELD, ...args] : args, {
    version: VERSION,
    // Each loads its part of the program, so that `selvage status` does not load the daemon.
    run: async (options) => {
      const { runAgent } = await import("./agent/run.ts");
      return await runAgent(options, WORKER_URL);
    },
    demo: async (options) => {
      const { runDemo } = await import("./demo/demo.ts");
      return await runDemo(options, import.meta.url);
    },
    openEtcd: async (options) => {
      const { openEtcdClient } = await import("./etcd/open_etcd_store.ts");
      return openEtcdClient(options);
    },
    clean: async (options) => {
      const { runClean } = await import("./clean/clean.ts");
      return await runClean(options);
    },
    check: async (options) => {
      const { runCheck } = await import("./check/check.ts");
      return await runCheck(options);
    },
  });
}

/**
 * The arguments; if secrets are among them the process starts anew, so that no other user sees
 * them.
 */
function readArguments(): string[] {
  const typed = process.argv.slice(2);
  const hidden = process.env[SECRETS_VARIABLE];
  delete process.env[SECRETS_VARIABLE];
  if (hidden !== undefined) return restoreSecrets(typed, hidden);
  const { masked, secrets } = maskSecrets(typed);
  if (secrets.length > 0) startAnew(typed, masked, { [SECRETS_VARIABLE]: JSON.stringify(secrets) });
  return typed;
}

/** How long what is still open may keep the process after its work is done. */
const EXIT_GRACE_MS = 2_000;

process.exitCode = await main(readArguments());
setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
