/** The micro-benchmarks, under both runtimes. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { errorText } from "../../src/errors.ts";
import { CHECKSUM_SOURCE, compileMicro, LOOKUP_SOURCE } from "./micro_source.ts";
import type { Figure, LeftOut } from "./results.ts";

const CHILD = fileURLToPath(new URL("./micro_child.ts", import.meta.url));
const BUN = "node_modules/@oven/bun-linux-x64/bin/bun";
const TIMEOUT_MS = 300_000;
const RUNTIMES: readonly { name: string; command: string; args: string[] }[] = [
  { name: "Bun", command: BUN, args: [CHILD] },
  { name: "Deno", command: process.execPath, args: ["run", "-A", "--no-check", CHILD] },
];

/** Compiles and runs them; what cannot be is left out, with the reason. */
export async function measureMicro(
  rounds: number,
  leftOut: LeftOut[],
  say: (text: string) => void,
): Promise<Figure[]> {
  const modules: Record<string, string> = {};
  for (
    const [name, source] of [["lookup", LOOKUP_SOURCE], ["checksum", CHECKSUM_SOURCE]] as const
  ) {
    try {
      modules[name] = Buffer.from(await compileMicro(source)).toString("base64");
    } catch (error) {
      leftOut.push({ title: `micro-benchmark ${name}`, reason: errorText(error) });
    }
  }
  return RUNTIMES.flatMap(({ name, command, args }) => {
    say(`micro-benchmarks under ${name}`);
    const { stdout, stderr, status } = spawnSync(command, [...args, String(rounds)], {
      input: JSON.stringify(modules),
      encoding: "utf8",
      timeout: TIMEOUT_MS,
    });
    if (status !== 0) {
      leftOut.push({ title: `micro-benchmarks under ${name}`, reason: stderr.trim() });
      return [];
    }
    const figures = JSON.parse(stdout) as Figure[];
    return figures.map((figure) => ({ ...figure, title: `${figure.title} (${name})` }));
  });
}
