/** `selvage check`: its flags, those of `run` that say what to look at. */
import type { Command } from "commander";
import { DEFAULTS } from "../../agent/options.ts";
import type { CheckOptions, EtcdAnswer } from "../../check/options.ts";
import type { HostPort } from "../../net/host_port.ts";
import { printableJson } from "../../printable.ts";
import { checkText } from "../check_text.ts";
import type { CommandContext } from "../context.ts";
import { addEtcdFlags, type EtcdFlags, etcdOptions } from "../etcd_flags.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import { linkChoice, type LinkFlags, linkFlags } from "../link_flags.ts";
import { EXIT, UsageError } from "../usage_error.ts";
import { hostPort, namedHostPort, nonEmpty } from "../values.ts";

interface CheckFlags extends LinkFlags, EtcdFlags {
  readonly json?: boolean;
  readonly netConfig?: string;
  readonly stateDir: string;
  readonly subnetFile: string;
  readonly apiSocket: string;
  readonly apiListen: HostPort | "off";
  readonly registryListen?: HostPort;
}

function addPlaceFlags(command: Command): void {
  const path = (term: string, description: string, byDefault: string, env: "selvage" | "flannel") =>
    valueFlag({ term, description, parse: nonEmpty, default: byDefault, env });
  const flags = [
    path(
      "state-dir <path>",
      "state directory that selvage run is to use",
      DEFAULTS.stateDir,
      "selvage",
    ),
    path(
      "subnet-file <path>",
      "subnet file that selvage run is to write",
      DEFAULTS.subnetFile,
      "flannel",
    ),
    path(
      "api-socket <path>",
      "Unix socket that selvage run is to serve",
      DEFAULTS.apiSocket,
      "selvage",
    ),
    valueFlag<HostPort | "off">({
      term: "api-listen <addr:port|off>",
      description: "address of the HTTP API that selvage run is to serve",
      parse: (text) => text === "off" ? text : hostPort()(text),
      default: hostPort()(DEFAULTS.apiListen),
      defaultText: DEFAULTS.apiListen,
      env: "selvage",
    }),
    valueFlag({
      term: "registry-listen <addr:port>",
      description: "address of the registry that selvage run is to serve",
      parse: namedHostPort(DEFAULTS.registryPort),
      env: "selvage",
    }),
  ];
  for (const flag of flags) command.addOption(flag);
}

async function askEtcdIfGiven(
  flags: CheckFlags,
  context: CommandContext,
): Promise<EtcdAnswer | null> {
  const etcd = etcdOptions(flags);
  if (etcd === null) return null;
  if (flags.netConfig !== undefined) {
    throw new UsageError(
      "--etcd-endpoints and --net-config exclude each other",
      "With etcd the configuration is kept there.",
    );
  }
  const { askEtcd } = await import("../etcd_access.ts");
  return await askEtcd(etcd, context);
}

async function toCheckOptions(
  flags: CheckFlags,
  etcd: EtcdAnswer | null,
): Promise<CheckOptions> {
  return {
    etcd,
    link: await linkChoice(flags),
    allowsNetworkOverlap: flags.allowNetworkOverlap ?? false,
    netConfigFile: flags.netConfig ?? null,
    stateDir: flags.stateDir,
    subnetFile: flags.subnetFile,
    apiSocket: flags.apiSocket,
    apiListen: flags.apiListen === "off" ? null : flags.apiListen,
    registryListen: flags.registryListen ?? null,
  };
}

const EXAMPLES = `
Examples:
  selvage check
  selvage check --iface eth1 --net-config net-conf.json
  selvage check --etcd-endpoints http://192.0.2.1:2379
  selvage check --json | jq '.checks[] | select(.result != "ok")'

The exit status is 0 if selvage run would work here, and 1 if something is missing for that.
`;

/** Adds `check` to the program. */
export function addCheck(program: Command, context: CommandContext): void {
  const command = program.command("check")
    .description("report what this host offers, what is missing, and what to do; change nothing")
    .addOption(boolFlag({ term: "json", description: "the report as JSON" }))
    .addOption(valueFlag({
      term: "net-config <file>",
      description: "judge this host for the network configuration (flannel's net-conf.json)",
      parse: nonEmpty,
      env: "selvage",
    }))
    .addHelpText("after", EXAMPLES);
  for (const flag of linkFlags()) command.addOption(flag);
  addPlaceFlags(command);
  addEtcdFlags(command);
  command.action(async (flags: CheckFlags) => {
    const etcd = await askEtcdIfGiven(flags, context);
    const report = await context.deps.check(await toCheckOptions(flags, etcd));
    context.io.out(flags.json === true ? printableJson(report) : checkText(report));
    context.exitWith(report.ready ? EXIT.ok : EXIT.failure);
  });
}
