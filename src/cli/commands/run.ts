/** `selvage run`: the daemon's flags, and what they become. */
import type { Command } from "commander";
import { DEFAULTS, type RunOptions } from "../../agent/options.ts";
import type { HostPort } from "../../net/host_port.ts";
import { errorText, SelvageError } from "../../errors.ts";
import { type JoinString, readJoinArgument } from "../../registry/join_string.ts";
import type { CommandContext } from "../context.ts";
import { addDaemonFlags, type DaemonFlags, daemonOptions } from "../daemon_flags.ts";
import { addEtcdFlags, type EtcdFlags, etcdOptions } from "../etcd_flags.ts";
import { valueFlag } from "../flags.ts";
import { secretNotices } from "../secrets.ts";
import { UsageError } from "../usage_error.ts";
import { namedHostPort, nonEmpty } from "../values.ts";

interface RunFlags extends DaemonFlags, EtcdFlags {
  readonly netConfig?: string;
  readonly registryListen?: HostPort;
  readonly join?: string;
}

/** The flags that say where the leases are kept. */
function addStoreFlags(command: Command): void {
  const env = "selvage";
  const flags = [
    valueFlag({
      term: "net-config <file>",
      description: "network configuration (flannel's net-conf.json) to put into the registry",
      parse: nonEmpty,
      env,
    }),
    valueFlag({
      term: "registry-listen <addr:port>",
      description:
        `address of the registry that other hosts join, over TLS; port ${DEFAULTS.registryPort}`,
      parse: namedHostPort(DEFAULTS.registryPort),
      env,
    }),
    valueFlag({
      term: "join <string|@file>",
      description:
        "join string from `selvage token create` on the registry host; @FILE: read it from a file",
      parse: nonEmpty,
      env,
    }),
  ];
  for (const flag of flags) command.addOption(flag);
  addEtcdFlags(command);
}

/** Reads the join string; an error names the flag. */
function readJoin(argument: string): JoinString {
  try {
    return readJoinArgument(argument);
  } catch (error) {
    if (!(error instanceof SelvageError)) throw error;
    throw new SelvageError(error.code, `--join: ${errorText(error)}`, { hint: error.hint });
  }
}

function excludeEachOther(flags: RunFlags): void {
  const { etcdEndpoints, join, netConfig, registryListen } = flags;
  const registry = [["net-config", netConfig], ["registry-listen", registryListen]] as const;
  const refuse = (what: string, others: readonly (readonly [string, unknown])[], hint: string) => {
    const found = others.find(([, value]) => value !== undefined);
    if (found === undefined) return;
    throw new UsageError(`--${what} and --${found[0]} exclude each other`, hint);
  };
  if (etcdEndpoints !== undefined) {
    const hint = "With etcd there is no registry. Write the network's configuration into etcd: " +
      `selvage config set FILE --etcd-endpoints ${etcdEndpoints.join(",")}`;
    refuse("etcd-endpoints", [["join", join], ...registry], hint);
  }
  if (join !== undefined) {
    refuse("join", registry, "A host either keeps the registry or joins the one of another host.");
  }
}

/**
 * Checks what the flags say together; `notices` are to be logged. Rejects with `UsageError` if two
 * exclude each other.
 */
async function toRunOptions(flags: RunFlags, notices: readonly string[]): Promise<RunOptions> {
  excludeEachOther(flags);
  if (flags.registryListen?.port === 0) {
    throw new UsageError("--registry-listen: port 0 changes at every start", "Choose a port.");
  }
  return {
    ...await daemonOptions(flags),
    netConfigFile: flags.netConfig ?? null,
    registryListen: flags.registryListen ?? null,
    join: flags.join === undefined ? null : readJoin(flags.join),
    etcd: etcdOptions(flags),
    notices,
  };
}

const EXAMPLES = `
Examples:
  The first host keeps the registry, and serves it to the other hosts
    selvage run --net-config net-conf.json --registry-listen 192.0.2.1:8286
    selvage token create
  Every other host joins it
    selvage run --join @/etc/selvage/join
  Without a registry, with the cluster's etcd
    selvage run --etcd-endpoints https://192.0.2.1:2379 --etcd-cafile /etc/etcd/ca.pem
  With flags as for flannel
    selvage run -iface=eth1 -public-ip=198.51.100.7 -v=1
`;

/** Adds `run` to the program. */
export function addRun(program: Command, context: CommandContext): void {
  const command = program.command("run")
    .description(
      "get a subnet for this host, and carry packets between its containers and other hosts",
    )
    .addHelpText("after", EXAMPLES);
  addDaemonFlags(command);
  addStoreFlags(command);
  command.action(async (flags: RunFlags) => {
    if (flags.version === true) return context.io.out(`selvage ${context.deps.version}\n`);
    const notices = secretNotices(command);
    context.exitWith(await context.deps.run(await toRunOptions(flags, notices)));
  });
}
