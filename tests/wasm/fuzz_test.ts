/** A short run of the fuzzer (`deno task fuzz`) over each loop with each set of offloads. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { Campaign } from "../fuzz/campaign.ts";

const SEED = 791;
const CASE_COUNT = 20_000;

for (const role of ["egress", "ingress"] as const) {
  test(`${role}: whatever comes, each packet leaves right or counts as dropped`, async () => {
    const campaign = new Campaign(SEED, [role]);
    await campaign.run(CASE_COUNT, () => {});
    assert.ok(campaign.packets > CASE_COUNT / 2, `only ${campaign.packets} packets left`);
  });
}
