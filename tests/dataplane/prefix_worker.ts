/** Worker of `prefix_table_test.ts`: looks addresses up in batches, as a loop does. */
import { parentPort, workerData } from "node:worker_threads";
import { AREA, instantiatePure } from "../wasm/pure.ts";
import {
  ADDRESS_COUNT,
  numberOf,
  type PrefixFindings,
  prefixOf,
  slotOf,
  STEADY,
} from "./prefix_plan.ts";
import { Random } from "./random.ts";

const BATCH_COUNT = 40_000;
const BATCH_SIZE = 64;

const { memory, epoch, seed } = workerData as {
  memory: WebAssembly.Memory;
  epoch: Int32Array<SharedArrayBuffer>;
  seed: number;
};
const functions = instantiatePure(memory);
const random = new Random(seed);
const halves = Array.from({ length: ADDRESS_COUNT }, (_, i) => {
  const { value } = prefixOf(i).last;
  return [value >> 64n, BigInt.asUintN(64, value)] as const;
});
const wrong: string[] = [];
let [foundCount, missedCount] = [0, 0];

for (let batch = 0; batch < BATCH_COUNT; batch++) {
  Atomics.add(epoch, 0, 1);
  for (let i = 0; i < BATCH_SIZE; i++) {
    const number = i === 0 ? random.below(STEADY) : random.below(ADDRESS_COUNT);
    const slot = functions.prefixLookup(AREA, ...halves[number]!);
    if (slot < 0) missedCount++;
    else foundCount++;
    const isRight = slot < 0 ? number >= STEADY : numberOf(slot) === number;
    const isSteady = number >= STEADY || slot === slotOf(number, 0);
    if ((!isRight || !isSteady) && wrong.length < 10) wrong.push(`${prefixOf(number)}: ${slot}`);
  }
  Atomics.add(epoch, 0, 1);
}
const findings: PrefixFindings = { wrong, foundCount, missedCount };
parentPort!.postMessage(findings);
