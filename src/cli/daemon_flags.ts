/** The flags of every command that is the daemon, wherever the leases are kept. */
import type { Command } from "commander";
import {
  DEFAULTS,
  type Offload,
  OFFLOADS,
  type RunOptions,
  WORKER_COUNT_MAX,
} from "../agent/options.ts";
import { type Level, LOG_LEVELS } from "../log.ts";
import type { HostPort } from "../net/host_port.ts";
import type { IpAddress } from "../net/ip.ts";
import { boolFlag, boolOrWordFlag, valueFlag } from "./flags.ts";
import { linkChoice, type LinkFlags, linkFlags } from "./link_flags.ts";
import { address, hostPort, integer, nonEmpty, oneOf } from "./values.ts";

/** A renewal margin in minutes must lie within the 24 hours of a lease; flannel's bounds. */
const RENEW_MARGIN_MAX_MINUTES = 24 * 60 - 1;
const PORT_MAX = 65_535;

export interface DaemonFlags extends LinkFlags {
  readonly subnetFile: string;
  readonly subnetLeaseRenewMargin: number;
  readonly ipMasq?: boolean;
  readonly ipMasqFullyRandomDisable?: boolean;
  readonly iptablesForwardRules?: boolean | "own";
  readonly ipBlackholeRoute?: boolean;
  readonly healthzIp: IpAddress;
  readonly healthzPort: number;
  readonly guard?: boolean;
  readonly setSysctls?: boolean;
  readonly stateDir: string;
  readonly apiListen: HostPort | "off";
  readonly apiSocket: string;
  readonly releaseOnExit?: boolean;
  readonly offload: "auto" | readonly Offload[];
  readonly workers: "auto" | number;
  readonly trustUnderlay?: boolean;
  readonly allowOutsideSources?: boolean;
  readonly allowExtension?: boolean;
  readonly logLevel?: Level;
  readonly v?: number;
  readonly version?: boolean;
}

/** What these flags say of a run; the rest says where the network is found. */
export type DaemonOptions = Omit<
  RunOptions,
  "netConfigFile" | "registryListen" | "join" | "etcd" | "notices"
>;

/** flannel's flags, so far as they mean something here. */
function addFlannelFlags(command: Command): void {
  const env = "flannel";
  const flags = [
    ...linkFlags(),
    valueFlag({
      term: "subnet-file <path>",
      description: "file for this host's subnet, read by container runtimes",
      parse: nonEmpty,
      default: DEFAULTS.subnetFile,
      env,
    }),
    valueFlag({
      term: "subnet-lease-renew-margin <minutes>",
      description:
        "renew the lease this many minutes before it ends; more than 720 counts as 720, half of " +
        "its 24 hours",
      parse: integer(1, RENEW_MARGIN_MAX_MINUTES),
      default: DEFAULTS.renewMargin_minutes,
      env,
    }),
    valueFlag({
      term: "healthz-ip <address>",
      description:
        "address of the health server, which serves only /healthz and /readyz, without TLS",
      parse: address(),
      default: address()(DEFAULTS.healthAddress),
      defaultText: DEFAULTS.healthAddress,
      env,
    }),
    valueFlag({
      term: "healthz-port <port>",
      description: "port of the health server; 0: no health server",
      parse: integer(0, PORT_MAX),
      default: 0,
      env,
    }),
    valueFlag({
      term: "v <level>",
      description: "verbosity; 1 or more means --log-level=debug",
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
      description:
        "masquerade packets that leave the network (nftables), and write that into subnet.env",
      env,
    }),
    boolFlag({
      term: "ip-masq-fully-random-disable",
      description: "do not choose random source ports for masqueraded packets",
      env,
    }),
    boolOrWordFlag({
      term: "iptables-forward-rules",
      word: "own",
      description:
        "let forward chains accept the network's packets; own: only our chains (default: true)",
      env,
    }),
    boolFlag({
      term: "ip-blackhole-route",
      description: "drop packets to addresses of this host's subnet that no container has",
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
    description: `kernel offloads to use, if the kernel has them: ${OFFLOADS.join(",")}`,
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
  command.addOption(boolFlag({
    term: "trust-underlay",
    description:
      "accept tunnel packets from any outer address, for routers that translate addresses",
    env,
  }));
  command.addOption(boolFlag({
    term: "allow-outside-sources",
    description: "carry packets from outside the network without masquerading",
    env,
  }));
}

function addOwnFlags(command: Command, apiListen: string): void {
  const env = "selvage";
  const parseApiListen = (text: string) => text === "off" ? text : hostPort()(text);
  const flags = [
    valueFlag({
      term: "state-dir <path>",
      description: "directory for the registry, tokens, keys and this host's state",
      parse: nonEmpty,
      default: DEFAULTS.stateDir,
      env,
    }),
    valueFlag({
      term: "api-listen <addr:port|off>",
      description: "address of the HTTP API; all local users can read, changes need a token",
      parse: parseApiListen,
      default: parseApiListen(apiListen),
      defaultText: apiListen,
      env,
    }),
    valueFlag({
      term: "api-socket <path>",
      description:
        "Unix socket of the HTTP API, with all rights; only the user who runs selvage can use it",
      parse: nonEmpty,
      default: DEFAULTS.apiSocket,
      env,
    }),
    boolFlag({
      term: "guard",
      description:
        "let only the network's hosts send into the tunnel, by nftables rules (default: true)",
      env,
    }),
    boolFlag({
      term: "set-sysctls",
      description: "switch IP forwarding on if it is off (default: true)",
      env,
    }),
    boolFlag({
      term: "allow-extension",
      description: "let the network's configuration run commands on this host (backend extension)",
      env,
    }),
    boolFlag({
      term: "release-on-exit",
      description:
        "when selvage ends, give the lease back and remove everything of selvage from the kernel",
      env,
    }),
    valueFlag({
      term: "log-level <level>",
      description: `lowest level to log: ${LOG_LEVELS.join(", ")} (default: ${DEFAULTS.logLevel})`,
      parse: oneOf(LOG_LEVELS),
      env,
    }),
  ];
  for (const flag of flags) command.addOption(flag);
}

/** Adds them all. `apiListen` is the default of the flag of that name. */
export function addDaemonFlags(command: Command, apiListen: string = DEFAULTS.apiListen): void {
  addFlannelFlags(command);
  addFirewallFlags(command);
  addOwnFlags(command, apiListen);
  addDataPlaneFlags(command);
}

function healthListen({ healthzIp, healthzPort }: DaemonFlags): HostPort | null {
  return healthzPort === 0 ? null : { host: healthzIp.toString(), port: healthzPort };
}

/** Rejects with `UsageError` for an invalid pattern of an interface. */
export async function daemonOptions(flags: DaemonFlags): Promise<DaemonOptions> {
  return {
    link: await linkChoice(flags),
    allowsNetworkOverlap: flags.allowNetworkOverlap ?? false,
    subnetFile: flags.subnetFile,
    renewMargin_ms: flags.subnetLeaseRenewMargin * 60_000,
    ipMasq: flags.ipMasq ?? false,
    isMasqFullyRandom: !(flags.ipMasqFullyRandomDisable ?? false),
    forwardRules: flags.iptablesForwardRules ?? true,
    blackholeRoute: flags.ipBlackholeRoute ?? false,
    isGuarded: flags.guard ?? true,
    setsSysctls: flags.setSysctls ?? true,
    stateDir: flags.stateDir,
    apiListen: flags.apiListen === "off" ? null : flags.apiListen,
    apiSocket: flags.apiSocket,
    healthListen: healthListen(flags),
    releaseOnExit: flags.releaseOnExit ?? false,
    offloads: flags.offload,
    workers: flags.workers,
    trustsUnderlay: flags.trustUnderlay ?? false,
    allowsOutsideSources: flags.allowOutsideSources ?? false,
    allowsCommands: flags.allowExtension ?? false,
    logLevel: flags.logLevel ?? ((flags.v ?? 0) > 0 ? "debug" : DEFAULTS.logLevel),
  };
}
