/**
 * `selvage flanneld`, and what the executable is where it is called `flanneld`: flannel's daemon,
 * by its flags, their environment variables and their defaults (those of flannel v0.28).
 */
import type { Command } from "commander";
import type { RunOptions } from "../../agent/options.ts";
import { SelvageError } from "../../errors.ts";
import type { CommandContext } from "../context.ts";
import { addDaemonFlags, type DaemonFlags, daemonOptions } from "../daemon_flags.ts";
import { addEtcdFlags, type EtcdFlags, etcdOptions } from "../etcd_flags.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import { secretNotices } from "../secrets.ts";

/** The name of the command, and the executable's that stands for it. */
export const FLANNELD = "flanneld";

interface IdleFlag {
  /** `name`, or `name <value>`; the default after it. */
  readonly term: string;
  readonly default?: string;
  readonly notice: string;
}

const LOGGING = "the log goes to stderr as it is; -v and --log-level say how much";
const KUBERNETES = "it means nothing without --kube-subnet-mgr";

/** What flannel takes and nothing here needs. */
const IDLE_FLAGS: readonly IdleFlag[] = [
  {
    term: "iptables-resync <seconds>",
    default: "5",
    notice: "there is nothing to repeat: the rules are watched, and mended at once",
  },
  { term: "kube-api-url <url>", notice: KUBERNETES },
  { term: "kubeconfig-file <path>", notice: KUBERNETES },
  {
    term: "kube-annotation-prefix <prefix>",
    default: "flannel.alpha.coreos.com",
    notice: KUBERNETES,
  },
  {
    term: "net-config-path <path>",
    default: "/etc/kube-flannel/net-conf.json",
    notice: KUBERNETES,
  },
  // glog's and klog's
  ...["vmodule", "stderrthreshold", "log_backtrace_at", "log_dir", "log_file", "log_file_max_size"]
    .map((name) => ({ term: `${name} <value>`, notice: LOGGING })),
];

/** The same, of those that are on or off; `default` where it means what is done anyway. */
const IDLE_SWITCHES: readonly { name: string; default?: boolean; notice: string }[] = [
  { name: "set-node-network-unavailable", default: true, notice: KUBERNETES },
  { name: "logtostderr", default: true, notice: LOGGING },
  { name: "alsologtostderr", notice: LOGGING },
  { name: "one_output", notice: LOGGING },
  { name: "add_dir_header", notice: LOGGING },
  { name: "skip_headers", notice: LOGGING },
  { name: "skip_log_headers", notice: LOGGING },
];

interface FlanneldFlags extends DaemonFlags, EtcdFlags {
  readonly kubeSubnetMgr?: boolean;
}

/** As commander calls the value of a flag. */
function attributeName(name: string): string {
  return name.replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase());
}

function addIdleFlags(command: Command): void {
  const env = "flannel";
  command.addOption(boolFlag({
    term: "kube-subnet-mgr",
    description: "leases from the Kubernetes API: not supported by this version, so it is refused",
    env,
  }));
  const description = "accepted because flannel has it; has no effect";
  for (const { term } of IDLE_FLAGS) {
    command.addOption(valueFlag({ term, description, parse: (text) => text, env }));
  }
  for (const { name } of IDLE_SWITCHES) {
    command.addOption(boolFlag({ term: name, description, env }));
  }
}

/** A sentence for each flag that was given another value than its default and does nothing. */
function noticesOf(flags: FlanneldFlags): string[] {
  const values = flags as unknown as Readonly<Record<string, unknown>>;
  const given = (name: string, byDefault: unknown) => {
    const value = values[attributeName(name)];
    return value !== undefined && value !== byDefault;
  };
  const idle = [
    ...IDLE_FLAGS.map((one) => ({ ...one, name: one.term.split(" ")[0]! })),
    ...IDLE_SWITCHES,
  ];
  return idle.filter((one) => given(one.name, one.default))
    .map(({ name, notice }) => `--${name}: ${notice}`);
}

/** What the flags say. Rejects with `unsupported` if they ask for Kubernetes. */
async function toRunOptions(
  flags: FlanneldFlags,
  notices: readonly string[],
): Promise<RunOptions> {
  if (flags.kubeSubnetMgr === true) {
    const text = "--kube-subnet-mgr: leases from the Kubernetes API come with a later version";
    throw new SelvageError("unsupported", text, {
      hint: "Keep the leases in etcd, or in a registry: selvage run --help.",
    });
  }
  return {
    ...await daemonOptions(flags),
    netConfigFile: null,
    registryListen: null,
    join: null,
    etcd: etcdOptions(flags),
    notices: [...noticesOf(flags), ...notices],
  };
}

/**
 * The arguments without empty words, and without flags that were given an empty value, which in
 * flannel stands for none: unit files pass on variables that may be empty. A flag and its value
 * are one word, as `normaliseGoFlags` leaves them.
 */
export function withoutEmpty(args: readonly string[]): string[] {
  const end = args.indexOf("--");
  const isAfterFlags = (i: number) => end >= 0 && i > end;
  return args.filter((arg, i) => arg !== "" && (isAfterFlags(i) || !/^--[^=]+=$/.test(arg)));
}

const EXAMPLES = `
Examples:
  selvage flanneld -etcd-endpoints=https://192.0.2.1:2379 -etcd-cafile=/etc/etcd/ca.pem -ip-masq
  ln -s selvage /usr/local/bin/flanneld        then a flanneld unit works unchanged

Flags have flannel's names, environment variables (FLANNELD_…) and defaults. The other flags of
selvage run are accepted as well.
`;

/** Adds `flanneld` to the program. */
export function addFlanneld(program: Command, context: CommandContext): void {
  const command = program.command(FLANNELD)
    .description("selvage run with flannel's flags and defaults, over etcd")
    .addHelpText("after", EXAMPLES);
  addEtcdFlags(command, true);
  // flannel opens no port of this kind; the socket is enough for the command line.
  addDaemonFlags(command, "off");
  addIdleFlags(command);
  command.action(async (flags: FlanneldFlags) => {
    if (flags.version === true) return context.io.out(`selvage ${context.deps.version}\n`);
    const notices = secretNotices(command);
    context.exitWith(await context.deps.run(await toRunOptions(flags, notices)));
  });
}
