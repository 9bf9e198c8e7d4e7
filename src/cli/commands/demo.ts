/** `selvage demo`: its flags. */
import type { Command } from "commander";
import type { CommandContext } from "../context.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import { UsageError } from "../usage_error.ts";
import { integer, oneOf } from "../values.ts";

const HOSTS_DEFAULT = 2;
const HOSTS_MAX = 16;
const GENERATION_MAX = 3;
const SIZE_DEFAULT_MIB = 64;
const SIZE_MAX_MIB = 4096;

/** How packets are carried in the demo. */
const DEMO_BACKENDS = ["udp", "vxlan", "vxlan-userspace", "host-gw"] as const;

interface DemoFlags {
  readonly backend: typeof DEMO_BACKENDS[number];
  readonly generation: number;
  readonly hosts: number;
  readonly keep?: boolean;
  readonly json?: boolean;
  readonly size: number;
}

const EXAMPLES = `
Examples:
  selvage demo
  selvage demo --hosts 4 --json
  selvage demo --backend vxlan --generation 2
`;

/** Adds `demo` to the program. */
export function addDemo(program: Command, context: CommandContext): void {
  program.command("demo")
    .description(
      "show selvage at work on this machine alone: hosts in namespaces, traffic between them",
    )
    .addOption(valueFlag({
      term: "hosts <n>",
      description: `number of hosts, 2 to ${HOSTS_MAX}`,
      parse: integer(2, HOSTS_MAX),
      default: HOSTS_DEFAULT,
    }))
    .addOption(valueFlag({
      term: "backend <name>",
      description: `how packets are carried: ${DEMO_BACKENDS.join(", ")}`,
      parse: oneOf(DEMO_BACKENDS),
      default: "udp",
    }))
    .addOption(valueFlag({
      term: "generation <n>",
      description: "generation of backend vxlan, 1 to 3: how the kernel's tables are filled",
      parse: integer(1, GENERATION_MAX),
      default: GENERATION_MAX,
    }))
    .addOption(valueFlag({
      term: "size <mib>",
      description: "size of each TCP transfer, in MiB",
      parse: integer(1, SIZE_MAX_MIB),
      default: SIZE_DEFAULT_MIB,
    }))
    .addOption(
      boolFlag({
        term: "keep",
        description: "keep hosts and containers up at the end, until Ctrl-C",
      }),
    )
    .addOption(boolFlag({ term: "json", description: "the result as JSON" }))
    .addHelpText("after", EXAMPLES)
    .action(async (flags: DemoFlags) => {
      if (flags.generation !== GENERATION_MAX && flags.backend !== "vxlan") {
        throw new UsageError(
          `--generation is not for backend ${flags.backend}`,
          "Give --backend vxlan with it.",
        );
      }
      context.exitWith(
        await context.deps.demo({
          hosts: flags.hosts,
          backend: flags.backend,
          generation: flags.generation,
          keep: flags.keep ?? false,
          json: flags.json ?? false,
          size_bytes: flags.size * 1024 * 1024,
        }),
      );
    });
}
