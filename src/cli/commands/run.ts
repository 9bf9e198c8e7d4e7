/** `selvage run`: the daemon's flags, and what they become. */
import type { Command } from "commander";
import {
  DEFAULTS,
  type Offload,
  OFFLOADS,
  type RunOptions,
  WORKER_COUNT_MAX,
} from "../../agent/options.ts";
import type { HostPort } from "../../net/host_port.ts";
import { errorText, SelvageError } from "../../errors.ts";
import { type Level, LOG_LEVELS } from "../../log.ts";
import { type JoinString, readJoinArgument } from "../../registry/join_string.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import { linkChoice, type LinkFlags, linkFlags } from "../link_flags.ts";
import { UsageError } from "../usage_error.ts";
import { hostPort, integer, nonEmpty, oneOf } from "../values.ts";

/** A renewal margin in minutes must lie within the 24 hours of a lease; flannel's bounds. */
const RENEW_MARGIN_MAX_MINUTES = 24 * 60 - 1;

interface RunFlags extends LinkFlags {
  readonly subnetFile: string;
  readonly subnetLeaseRenewMargin: number;
  readonly ipMasq?: boolean;
  readonly ipMasqFullyRandomDisable?: boolean;
  readonly iptablesForwardRules?: boolean;
  readonly setSysctls?: boolean;
  readonly netConfig?: string;
  readonly registryListen?: HostPort;
  readonly join?: string;
  readonly stateDir: string;
  readonly apiListen: HostPort | "off";
  readonly apiSocket: string;
  readonly releaseOnExit?: boolean;
  readonly offload: "auto" | readonly Offload[];
  readonly workers: "auto" | number;
  readonly logLevel?: Level;
  readonly v?: number;
  readonly version?: boolean;
}

/** flannel's flags, so far as they mean something here. */
function addFlannelFlags(command: Command): void {
  const env = "flannel";
  const flags = [
    ...linkFlags(),
    valueFlag({
      term: "subnet-file <path>",
      description: "where subnet.env is written",
      parse: nonEmpty,
      default: DEFAULTS.subnetFile,
      env,
    }),
    valueFlag({
      term: "subnet-lease-renew-margin <minutes>",
      description: "how long before its end the lease is renewed",
      parse: integer(1, RENEW_MARGIN_MAX_MINUTES),
      default: DEFAULTS.renewMargin_minutes,
      env,
    }),
    valueFlag({
      term: "v <level>",
      description: "verbosity; 1 and more is --log-level=debug",
      parse: integer(0, 99),
      env,
    }),
    boolFlag({ term: "version", description: "print the version and exit" }),
  ];
  for (const flag of flags) command.addOption(flag);
}

function addFirewallFlags(command: Command): void {
  const env = "flannel";
  const flags = [
    boolFlag({
      term: "ip-masq",
      description: "masquerade what leaves the network (nftables), and say so in subnet.env",
      env,
    }),
    boolFlag({
      term: "ip-masq-fully-random-disable",
      description: "do not make the source ports of what is masqueraded random",
      env,
    }),
    boolFlag({
      term: "iptables-forward-rules",
      description: "accept what is forwarded from and to the network (nftables; default: true)",
      env,
    }),
  ];
  for (const flag of flags) command.addOption(flag);
}

/** `auto`, `off`, or names with commas between them. */
function offloadList(text: string): "auto" | readonly Offload[] {
  if (text === "auto") return text;
  if (text === "off") return [];
  return text.split(",").map((name) => {
    const found = OFFLOADS.find((offload) => offload === name);
    if (found === undefined) throw new Error(`must be auto, off, or some of ${OFFLOADS.join(",")}`);
    return found;
  });
}

/** `auto`, or how many. */
function workerCount(text: string): "auto" | number {
  if (text === "auto") return text;
  const count = /^[0-9]+$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= WORKER_COUNT_MAX) return count;
  throw new Error(`must be auto, or a number from 1 to ${WORKER_COUNT_MAX}`);
}

function addDataPlaneFlags(command: Command): void {
  const env = "selvage";
  command.addOption(valueFlag({
    term: "offload <auto|off|list>",
    description: `kernel offloads to use, as far as it has them: ${OFFLOADS.join(",")}`,
    parse: offloadList,
    default: "auto",
    env,
  }));
  command.addOption(valueFlag<"auto" | number>({
    term: "workers <auto|n>",
    description: `pairs of packet loops for each tunnel, 1 to ${WORKER_COUNT_MAX}; ` +
      "auto: one for each two cores",
    parse: workerCount,
    default: "auto",
    env,
  }));
}

function addOwnFlags(command: Command): void {
  const env = "selvage";
  const flags = [
    valueFlag({
      term: "net-config <file>",
      description: "put this network configuration (flannel's net-conf.json) into the registry",
      parse: nonEmpty,
      env,
    }),
    valueFlag({
      term: "registry-listen <addr:port>",
      description:
        `serve the registry to other hosts here, over TLS; port ${DEFAULTS.registryPort}`,
      parse: hostPort(DEFAULTS.registryPort),
      env,
    }),
    valueFlag({
      term: "join <string|@file>",
      description: "join another host's registry with what its `selvage token create` printed",
      parse: nonEmpty,
      env,
    }),
    valueFlag({
      term: "state-dir <path>",
      description: "where registry and keys are kept",
      parse: nonEmpty,
      default: DEFAULTS.stateDir,
      env,
    }),
    valueFlag({
      term: "api-listen <addr:port|off>",
      description: "HTTP API: reading for all local users, changing with a token",
      parse: (text) => text === "off" ? text : hostPort()(text),
      default: hostPort()(DEFAULTS.apiListen),
      defaultText: DEFAULTS.apiListen,
      env,
    }),
    valueFlag({
      term: "api-socket <path>",
      description: "HTTP API, all of it, for the user who runs this",
      parse: nonEmpty,
      default: DEFAULTS.apiSocket,
      env,
    }),
    boolFlag({
      term: "set-sysctls",
      description: "switch IP forwarding on where it is off (default: true)",
      env,
    }),
    boolFlag({
      term: "release-on-exit",
      description: "at the end give the lease back and remove all there is in the kernel",
      env,
    }),
    valueFlag({
      term: "log-level <level>",
      description: `what is logged: ${LOG_LEVELS.join(", ")} (default: ${DEFAULTS.logLevel})`,
      parse: oneOf(LOG_LEVELS),
      env,
    }),
  ];
  for (const flag of flags) command.addOption(flag);
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

function logLevel(flags: RunFlags): Level {
  return flags.logLevel ?? ((flags.v ?? 0) > 0 ? "debug" : DEFAULTS.logLevel);
}

/** Checks what the flags say together. Throws `UsageError` where two exclude each other. */
export function toRunOptions(flags: RunFlags): RunOptions {
  for (
    const [name, value] of [
      ["net-config", flags.netConfig],
      ["registry-listen", flags.registryListen],
    ] as const
  ) {
    if (flags.join === undefined || value === undefined) continue;
    throw new UsageError(
      `--join and --${name} exclude each other`,
      "A host either keeps the registry or joins the one of another host.",
    );
  }
  if (flags.registryListen?.port === 0) {
    throw new UsageError("--registry-listen: port 0 changes at every start", "Choose a port.");
  }
  return {
    link: linkChoice(flags),
    subnetFile: flags.subnetFile,
    renewMargin_ms: flags.subnetLeaseRenewMargin * 60_000,
    ipMasq: flags.ipMasq ?? false,
    isMasqFullyRandom: !(flags.ipMasqFullyRandomDisable ?? false),
    forwardRules: flags.iptablesForwardRules ?? true,
    setsSysctls: flags.setSysctls ?? true,
    netConfigFile: flags.netConfig ?? null,
    registryListen: flags.registryListen ?? null,
    join: flags.join === undefined ? null : readJoin(flags.join),
    stateDir: flags.stateDir,
    apiListen: flags.apiListen === "off" ? null : flags.apiListen,
    apiSocket: flags.apiSocket,
    releaseOnExit: flags.releaseOnExit ?? false,
    offloads: flags.offload,
    workers: flags.workers,
    logLevel: logLevel(flags),
  };
}

const EXAMPLES = `
Examples:
  The first host: keep the registry, serve it to others
    selvage run --net-config net-conf.json --registry-listen 192.0.2.1:8286
    selvage token create
  Every other host: join it
    selvage run --join @/etc/selvage/join
  As flannel is called
    selvage run -iface=eth1 -public-ip=198.51.100.7 -v=1
`;

/** Adds `run` to the program. */
export function addRun(program: Command, context: CommandContext): void {
  const command = program.command("run")
    .description("get this host a subnet, and carry packets between its containers and others'")
    .addHelpText("after", EXAMPLES);
  addFlannelFlags(command);
  addFirewallFlags(command);
  addOwnFlags(command);
  addDataPlaneFlags(command);
  command.action(async (flags: RunFlags) => {
    if (flags.version === true) return context.io.out(`selvage ${context.deps.version}\n`);
    context.exitWith(await context.deps.run(toRunOptions(flags)));
  });
}
