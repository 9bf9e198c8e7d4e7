/** `selvage config`: the network's configuration, shown or checked. */
import type { Command } from "commander";
import { readFileBounded } from "../../files.ts";
import { printable, printableJson } from "../../printable.ts";
import { addClientFlags, type ClientFlags, openClient, succeeded } from "../client.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag } from "../flags.ts";

/** For scripts that ask every command for it. */
const jsonFlag = () => boolFlag({ term: "json", description: "as JSON, which it always is" });

function addShow(config: Command, { io }: CommandContext): void {
  const command = config.command("show", { isDefault: true })
    .description("print the configuration in force, every default filled in, as flannel's JSON")
    .addOption(jsonFlag());
  addClientFlags(command).action(async (flags: ClientFlags) => {
    const response = await succeeded(openClient(flags).v1.config.$get());
    io.out(printableJson(await response.json()));
  });
}

function addCheck(config: Command, { io }: CommandContext): void {
  config.command("check")
    .description("check a net-conf.json; needs no daemon, prints it with every default filled in")
    .argument("<file>")
    .addOption(jsonFlag())
    .action(async (file: string) => {
      const parser = await import("../../config/parse_network_config.ts");
      const text = readFileBounded(file, parser.CONFIG_SIZE_MAX_BYTES);
      const parsed = parser.parseNetworkConfig(text, file);
      const { ANY_HOST, configWarnings, selectBackend } = await import("../../backend/select.ts");
      selectBackend(parsed, ANY_HOST).check(parsed, null);
      for (const warning of configWarnings(parsed)) io.err(printable(`warning: ${warning}`) + "\n");
      io.out(printableJson(JSON.parse(parser.formatNetworkConfig(parsed))));
    });
}

const EXAMPLES = `
Examples:
  selvage config
  selvage config check net-conf.json
`;

/** Adds `config` with its subcommands to the program. */
export function addConfig(program: Command, context: CommandContext): void {
  const config = program.command("config")
    .description("show the network's configuration, or check a file")
    .addHelpText("afterAll", EXAMPLES);
  addShow(config, context);
  addCheck(config, context);
}
