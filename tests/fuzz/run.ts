/**
 * `deno task fuzz`: the packet loops over right, broken and half-broken input, compared with their
 * naive twin. Ends with status 1 and the seed and the case if anything is wrong.
 */
import { parseArgs } from "node:util";
import { randomInt } from "node:crypto";
import type { Role } from "../../src/dataplane/counters.ts";
import { Campaign, FuzzFailure } from "./campaign.ts";

const USAGE = `deno task fuzz [flags]

  --cases N    how many packets or messages (default 1000000)
  --seed N     the same seed makes the same cases (default: any; it is printed)
  --loop LOOP  egress, ingress or both (default both)
  --case N     repeat this one, alone and with its batch; with the --seed and --loop that found it
  --help`;
const SEED_END = 2 ** 31;
const PROGRESS_PERIOD_MS = 5_000;

function number(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${flag} is a number from 0`);
  return value;
}

function rolesOf(loop: string): Role[] {
  if (loop === "both") return ["egress", "ingress"];
  if (loop === "egress" || loop === "ingress") return [loop];
  throw new Error("--loop is egress, ingress or both");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      cases: { type: "string", default: "1000000" },
      seed: { type: "string" },
      loop: { type: "string", default: "both" },
      case: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const seed = values.seed === undefined ? randomInt(SEED_END) : number("seed", values.seed);
  const campaign = new Campaign(seed, rolesOf(values.loop));
  const start_ms = performance.now();
  const elapsed_s = () => ((performance.now() - start_ms) / 1000).toFixed(1);
  console.error(`seed ${seed}`);
  try {
    if (values.case !== undefined) {
      const one = number("case", values.case);
      await campaign.repeat(one);
      console.log(`seed ${seed}, case ${one}: passed, alone and with its batch`);
      return 0;
    }
    const count = number("cases", values.cases);
    let next_ms = start_ms + PROGRESS_PERIOD_MS;
    await campaign.run(count, (done) => {
      if (performance.now() < next_ms) return;
      next_ms = performance.now() + PROGRESS_PERIOD_MS;
      console.error(`${done} of ${count} cases, ${elapsed_s()} s`);
    });
    console.log(
      `passed: ${count} cases, seed ${seed}, ${campaign.packets} packets out, ${elapsed_s()} s`,
    );
    return 0;
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    console.log(`FAILED: ${error.message}`);
    const flags = `--seed ${seed} --loop ${values.loop} --case ${error.caseNumber}`;
    console.log(`repeat it: deno task fuzz ${flags}`);
    return 1;
  }
}

process.exitCode = await main();
