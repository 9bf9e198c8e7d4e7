/** The micro-benchmarks, under both runtimes. */
import { fileURLToPath } from "node:url";
import { errorText } from "../../src/errors.ts";
import { runWithInput } from "./children.ts";
import {
  CHECKSUM_SOURCE,
  compileMicro,
  LOOKUP6_SOURCE,
  LOOKUP_SOURCE,
  SEGMENT_SOURCE,
} from "./micro_source.ts";
import type { Figure, LeftOut } from "./results.ts";

const CHILD = fileURLToPath(new URL("./micro_child.ts", import.meta.url));
const BUN = "node_modules/@oven/bun-linux-x64/bin/bun";
const SOURCES = {
  lookup: LOOKUP_SOURCE,
  lookup6: LOOKUP6_SOURCE,
  checksum: CHECKSUM_SOURCE,
  segment: SEGMENT_SOURCE,
};
const TIMEOUT_MS = 300_000;
const RUNTIMES: readonly { name: string; command: string; args: string[] }[] = [
  { name: "Bun", command: BUN, args: [CHILD] },
  { name: "Deno", command: process.execPath, args: ["run", "-A", "--no-check", CHILD] },
];

export interface MicroOptions {
  readonly rounds: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** What cannot be compiled or run is added here, with the reason. */
  readonly leftOut: LeftOut[];
}

/** The modules that compile, in base64, by their names. */
async function compileAll(leftOut: LeftOut[]): Promise<Record<string, string>> {
  const modules: Record<string, string> = {};
  for (const [name, source] of Object.entries(SOURCES)) {
    try {
      modules[name] = Buffer.from(await compileMicro(source)).toString("base64");
    } catch (error) {
      leftOut.push({ title: `micro-benchmark ${name}`, reason: errorText(error) });
    }
  }
  return modules;
}

export async function measureMicro(options: MicroOptions): Promise<Figure[]> {
  const { rounds, signal, leftOut } = options;
  const input = JSON.stringify(await compileAll(leftOut));
  const figures: Figure[] = [];
  for (const { name, command, args } of RUNTIMES) {
    options.say(`micro-benchmarks under ${name}`);
    const limits = { timeout_ms: TIMEOUT_MS, signal };
    const result = await runWithInput(command, [...args, String(rounds)], input, limits);
    if (result.status !== 0) {
      leftOut.push({ title: `micro-benchmarks under ${name}`, reason: result.stderr.trim() });
      continue;
    }
    for (const figure of JSON.parse(result.stdout) as Figure[]) {
      figures.push({ ...figure, title: `${figure.title} (${name})` });
    }
  }
  return figures;
}
