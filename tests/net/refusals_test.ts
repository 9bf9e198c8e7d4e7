import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { type RefusalLimits, Refusals } from "../../src/net/refusals.ts";

/** No delay, and no sum but the first and the last. */
const QUICK = { delayFirst_ms: 0, logInterval_ms: 1e6 };

function newRefusals(limits: Partial<RefusalLimits> = {}) {
  const lines: string[] = [];
  return { refusals: new Refusals((line) => lines.push(line), { ...QUICK, ...limits }), lines };
}

describe("refused requests", () => {
  // Their own timers keep no process from ending.
  const alive = setInterval(() => {}, 1_000);
  after(() => clearInterval(alive));

  test("are logged at once, and then in sums, the largest first", async () => {
    const { refusals, lines } = newRefusals({ namedCountMax: 2 });
    await refusals.refuse("192.0.2.1");
    assert.deepEqual(lines, ["refused requests without a valid token: 1 from 192.0.2.1"]);
    for (const host of [1, 2, 2, 2, 3, 4, 1]) await refusals.refuse(`192.0.2.${host}`);
    assert.equal(lines.length, 1);
    refusals.close();
    assert.equal(
      lines[1],
      "refused requests without a valid token: 3 from 192.0.2.2, 2 from 192.0.2.1, " +
        "2 from other addresses",
    );
    assert.equal(refusals.count, 8);
  });

  test("are summed up again after the interval, and no more when there are none", async () => {
    const { refusals, lines } = newRefusals({ logInterval_ms: 30 });
    await refusals.refuse("192.0.2.1");
    await refusals.refuse("192.0.2.1");
    while (lines.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(lines.length, 2);
    await refusals.refuse("192.0.2.1");
    assert.equal(lines.length, 3);
    refusals.close();
  });

  test("know a bounded number of sources, and lose no count", async () => {
    const { refusals, lines } = newRefusals({ sourceCountMax: 3, namedCountMax: 1 });
    for (let i = 1; i <= 50; i++) await refusals.refuse(`192.0.2.${i}`);
    refusals.close();
    assert.match(lines[1]!, /: 1 from 192\.0\.2\.\d+, 48 from other addresses$/);
  });

  test("are slowed down by source, more and more, up to a bound; others are not", async () => {
    const { refusals } = newRefusals({ delayFirst_ms: 20, delayMax_ms: 80 });
    const time = async (address: string, now_ms?: number) => {
      const start_ms = performance.now();
      await refusals.refuse(address, now_ms);
      return performance.now() - start_ms;
    };
    for (const least_ms of [20, 40, 80, 80]) {
      assert.ok(await time("192.0.2.1") > least_ms - 2);
    }
    const [slow, quick] = await Promise.all([time("192.0.2.1"), time("192.0.2.2")]);
    assert.ok(quick < slow, `${quick} ms, ${slow} ms`);
    const later_ms = performance.now() + 11 * 60_000;
    const [again, other] = await Promise.all([time("192.0.2.1", later_ms), time("192.0.2.2")]);
    assert.ok(again < other, "a source that was quiet for long begins anew");
    refusals.close();
  });

  test("hold back a bounded number of answers", async () => {
    const { refusals } = newRefusals({ delayFirst_ms: 1e6, delayedCountMax: 2 });
    void refusals.refuse("192.0.2.1");
    void refusals.refuse("192.0.2.2");
    await refusals.refuse("192.0.2.3");
    refusals.close();
  });
});
