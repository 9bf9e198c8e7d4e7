import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type PeerAct, PeerCommands } from "../../src/agent/peer_commands.ts";
import type { CommandPeer } from "../../src/backend/backend.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

function peer(number: number, host = number, data = ""): CommandPeer {
  return {
    key: `10.5.${number}.0-24`,
    subnet: IpPrefix.parse(`10.5.${number}.0/24`),
    address: IpAddress.parse(`192.0.2.${host}`),
    data,
    ipv6: null,
  };
}

/** Commands that end when the test says so. */
class Script {
  readonly log: string[] = [];
  readonly #open = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();
  atOnceMax = 0;

  run = (act: PeerAct, { subnet, address }: CommandPeer, signal: AbortSignal): Promise<void> => {
    const place = `${subnet}`;
    assert.ok(!this.#open.has(place), `two at once for ${place}`);
    this.log.push(`${act} ${place} ${address}`);
    return new Promise<void>((resolve, reject) => {
      this.#open.set(place, { resolve, reject });
      this.atOnceMax = Math.max(this.atOnceMax, this.#open.size);
      signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
    }).finally(() => this.#open.delete(place));
  };

  get open(): string[] {
    return [...this.#open.keys()];
  }

  /** Ends what runs for this subnet, and lets everything that follows happen. */
  async end(number: number, error: Error | null = null): Promise<void> {
    const one = this.#open.get(`10.5.${number}.0/24`);
    assert.ok(one, `nothing runs for ${number}`);
    if (error === null) one.resolve();
    else one.reject(error);
    await settle();
  }

  async untilOpen(number: number): Promise<void> {
    for (let i = 0; i < 1000 && !this.#open.has(`10.5.${number}.0/24`); i++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.ok(this.#open.has(`10.5.${number}.0/24`));
  }
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

function begin(more: { retryFirst_ms?: number; close_ms?: number } = {}) {
  const script = new Script();
  const commands = new PeerCommands({ run: script.run, retryFirst_ms: 1, ...more });
  commands.begin();
  return { script, commands };
}

const ADD_1 = "add 10.5.1.0/24 192.0.2.1";
const REMOVE_1 = "remove 10.5.1.0/24 192.0.2.1";

describe("the commands of the peers", () => {
  test("wait for the beginning", async () => {
    const script = new Script();
    const commands = new PeerCommands({ run: script.run });
    commands.update([peer(1)]);
    await settle();
    assert.deepEqual(script.log, []);
    assert.match(commands.failed[0]!.reason, /still to be run, after PostStartupCommand/);
    commands.begin();
    assert.deepEqual(script.log, [ADD_1]);
    commands.update(Array.from({ length: 9 }, (_, i) => peer(i + 1)));
    const reasons = commands.failed.map(({ reason }) => reason);
    assert.match(reasons[0]!, /has not ended yet/);
    assert.match(reasons[8]!, /still to be run, after those of other peers/);
    for (let i = 1; i <= 9; i++) await script.end(i);
    await commands.close(false);
  });

  test("that fail for every peer are a problem, until one is set up; a few are not", async () => {
    const { script, commands } = begin({ retryFirst_ms: 20 });
    assert.deepEqual(commands.problems, []);
    commands.update([peer(1), peer(2)]);
    assert.deepEqual(commands.problems, []);
    await script.end(1, new Error("ended with status 7"));
    await script.end(2, new Error("ended with status 8"));
    const [problem, ...rest] = commands.problems;
    assert.match(
      problem!,
      /failed for all 2 peers, .*10\.5\.1\.0\/24: ended with status 7\. .* Correct the command/,
    );
    assert.deepEqual(rest, []);
    // First the command that removes what is half done, then the one that adds.
    await script.untilOpen(2);
    await script.end(2);
    assert.equal(commands.problems.length, 1);
    await script.untilOpen(2);
    await script.end(2);
    assert.deepEqual(commands.problems, []);
    assert.equal(commands.failed.length, 1);
    const closed = commands.close(false);
    for (const subnet of script.open) await script.end(Number(subnet.split(".")[2]));
    await closed;
  });

  test("one for who comes, one for who goes, none for who stays", async () => {
    const { script, commands } = begin();
    commands.update([peer(1)]);
    assert.equal(commands.failed[0]!.reason, "its SubnetAddCommand has not ended yet");
    await script.end(1);
    assert.deepEqual(commands.failed, []);
    commands.update([peer(1), peer(2)]);
    await script.end(2);
    commands.update([peer(2)]);
    await script.end(1);
    assert.deepEqual(script.log, [ADD_1, "add 10.5.2.0/24 192.0.2.2", REMOVE_1]);
    await commands.close(false);
    assert.equal(script.log.length, 3, "the end removes nothing");
  });

  test("another host or other data in a subnet: removed as it was, added as it is", async () => {
    const { script, commands } = begin();
    commands.update([peer(1)]);
    await script.end(1);
    commands.update([peer(1, 77)]);
    await script.end(1);
    await script.end(1);
    commands.update([peer(1, 77, "data")]);
    await script.end(1);
    await script.end(1);
    assert.deepEqual(script.log, [
      ADD_1,
      REMOVE_1,
      "add 10.5.1.0/24 192.0.2.77",
      "remove 10.5.1.0/24 192.0.2.77",
      "add 10.5.1.0/24 192.0.2.77",
    ]);
    await commands.close(false);
  });

  test("who goes while being added is removed only when that has ended", async () => {
    const { script, commands } = begin();
    commands.update([peer(1)]);
    commands.update([]);
    await settle();
    assert.deepEqual(script.log, [ADD_1]);
    await script.end(1);
    assert.deepEqual(script.log, [ADD_1, REMOVE_1]);
    commands.update([peer(1)]);
    await script.end(1);
    assert.deepEqual(script.log, [ADD_1, REMOVE_1, ADD_1]);
    await script.end(1);
    assert.deepEqual(commands.failed, []);
    await commands.close(false);
  });

  test("a failure is told, taken back and tried again, whatever taking back says", async () => {
    const { script, commands } = begin();
    commands.update([peer(1), peer(2)]);
    await script.end(2);
    await script.end(1, new Error("no way"));
    assert.deepEqual(commands.failed, [{ key: "10.5.1.0-24", reason: "no way" }]);
    await script.untilOpen(1);
    await script.end(1, new Error("nothing there"));
    assert.deepEqual(script.log.slice(2), [REMOVE_1, ADD_1]);
    await script.end(1);
    assert.deepEqual([commands.failed, commands.problems], [[], []]);
    await commands.close(false);
  });

  test("who cannot be removed is a problem, and left at last", async () => {
    const { script, commands } = begin();
    commands.update([peer(1)]);
    await script.end(1);
    commands.update([]);
    await script.end(1, new Error("busy"));
    assert.deepEqual(commands.problems, ["10.5.1.0/24, which has gone: busy"]);
    for (let i = 0; i < 4; i++) {
      await script.untilOpen(1);
      await script.end(1, new Error("busy"));
    }
    assert.deepEqual(commands.problems, []);
    assert.equal(script.log.filter((line) => line === REMOVE_1).length, 5);
    await commands.close(false);
  });

  test("who comes back after half a removal is removed and added once more", async () => {
    const { script, commands } = begin({ retryFirst_ms: 60_000 });
    commands.update([peer(1)]);
    await script.end(1);
    commands.update([]);
    await script.end(1, new Error("busy"));
    commands.update([peer(1)]);
    assert.equal(commands.failed.length, 1);
    await script.end(1, new Error("nothing there"));
    await script.end(1);
    assert.deepEqual(script.log, [ADD_1, REMOVE_1, REMOVE_1, ADD_1]);
    assert.deepEqual(commands.failed, []);
    await commands.close(false);
  });

  test("who cannot be removed does not keep its successor waiting", async () => {
    const { script, commands } = begin({ retryFirst_ms: 60_000 });
    commands.update([peer(1)]);
    await script.end(1);
    commands.update([peer(1, 77)]);
    await script.end(1, new Error("busy"));
    assert.equal(script.log.at(-1), "add 10.5.1.0/24 192.0.2.77");
    await script.end(1);
    await commands.close(false);
  });

  test("a peer that changes is not kept waiting by an earlier failure", async () => {
    const { script, commands } = begin({ retryFirst_ms: 60_000 });
    commands.update([peer(1)]);
    await script.end(1, new Error("no way"));
    commands.update([peer(1, 77)]);
    await script.end(1);
    assert.deepEqual(script.log, [ADD_1, REMOVE_1, "add 10.5.1.0/24 192.0.2.77"]);
    await script.end(1);
    await commands.close(false);
  });

  test("a few run at once, and all in the end", async () => {
    const { script, commands } = begin();
    commands.update(Array.from({ length: 100 }, (_, i) => peer(i + 1)));
    await settle();
    assert.equal(script.open.length, 8);
    while (script.open.length > 0) await script.end(Number(script.open[0]!.split(".")[2]));
    assert.equal(script.log.length, 100);
    assert.equal(script.atOnceMax, 8);
    assert.deepEqual(commands.failed, []);
    await commands.close(false);
  });

  test("who changes in the very moment in which a command ends is not forgotten", async () => {
    for (let turnCount = 0; turnCount < 20; turnCount++) {
      const { script, commands } = begin();
      commands.update([peer(1)]);
      const ended = script.end(1);
      for (let i = 0; i < turnCount; i++) await Promise.resolve();
      commands.update([peer(1, 9)]);
      await ended;
      await script.end(1);
      await script.end(1);
      assert.deepEqual(script.log, [ADD_1, REMOVE_1, "add 10.5.1.0/24 192.0.2.9"], `${turnCount}`);
      await commands.close(false);
    }
  });

  test("the end waits for what runs, and with clearing removes everyone", async () => {
    const { script, commands } = begin();
    commands.update([peer(1), peer(2)]);
    await script.end(1);
    const closing = commands.close(true);
    await settle();
    assert.equal(script.log.at(-1), REMOVE_1);
    await script.end(2);
    await script.end(1);
    await script.end(2);
    await closing;
    assert.deepEqual(script.log.slice(2).sort(), [REMOVE_1, "remove 10.5.2.0/24 192.0.2.2"]);
    commands.update([peer(3)]);
    await settle();
    assert.equal(script.log.length, 4);
  });

  test("the end does not wait for ever", async () => {
    const { script, commands } = begin({ close_ms: 20 });
    commands.update(Array.from({ length: 20 }, (_, i) => peer(i + 1)));
    await commands.close(true);
    assert.deepEqual(script.open, []);
  });

  test("whatever comes, goes and fails: each subnet alternates, and ends as wanted", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({
          host: fc.constantFrom(null, 1, 2),
          number: fc.integer({ min: 1, max: 3 }),
          fails: fc.boolean(),
          endsFirst: fc.boolean(),
        })),
        async (steps) => {
          const { script, commands } = begin({ retryFirst_ms: 60_000 });
          const wanted = new Map<number, number>();
          for (const { host, number, fails, endsFirst } of steps) {
            if (host === null) wanted.delete(number);
            else wanted.set(number, host);
            commands.update([...wanted].map(([place, one]) => peer(place, one)));
            const [open] = script.open;
            const error = fails ? new Error("fails") : null;
            if (endsFirst && open !== undefined) {
              await script.end(Number(open.split(".")[2]), error);
            }
          }
          while (script.open.length > 0) await script.end(Number(script.open[0]!.split(".")[2]));
          // What failed waits a minute; all others are as wanted.
          const failed = new Set(commands.failed.map(({ key }) => key));
          for (const number of [1, 2, 3]) {
            const acts = script.log.filter((line) => line.includes(` 10.5.${number}.0/24 `));
            acts.forEach((act, i) => {
              if (i === 0) assert.match(act, /^add/);
              // Only a removal that failed may follow another.
              else if (act.startsWith("add")) assert.match(acts[i - 1]!, /^remove/);
            });
            if (failed.has(`10.5.${number}.0-24`) || commands.problems.length > 0) continue;
            const host = wanted.get(number);
            if (host === undefined) assert.match(acts.at(-1) ?? "remove", /^remove/);
            else assert.equal(acts.at(-1), `add 10.5.${number}.0/24 192.0.2.${host}`);
          }
          await commands.close(false);
        },
      ),
      { numRuns: 200 },
    ));
});
