/** `selvage version`. */
import type { Command } from "commander";
import type { CommandContext } from "../context.ts";
import { boolFlag } from "../flags.ts";

interface VersionFlags {
  readonly json?: boolean;
}

/** The runtime under us, by the version table that both bring (node's `process.versions`). */
function runtime(): { name: string; version: string } {
  for (const name of ["bun", "deno", "node"]) {
    const version = process.versions[name];
    if (version !== undefined) return { name, version };
  }
  return { name: "unknown", version: "" };
}

/** Adds `version` to the program. */
export function addVersion(program: Command, { io, deps }: CommandContext): void {
  program.command("version")
    .description("print the version")
    .addOption(boolFlag({ term: "json", description: "version, runtime and platform as JSON" }))
    .addHelpText("after", "\nExamples:\n  selvage version --json\n")
    .action((flags: VersionFlags) => {
      const { version } = deps;
      const { platform, arch } = process;
      const value = { version, runtime: runtime(), platform, arch };
      io.out(flags.json === true ? `${JSON.stringify(value)}\n` : `selvage ${version}\n`);
    });
}
