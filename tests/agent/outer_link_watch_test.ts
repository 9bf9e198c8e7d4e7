import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { OuterLinkWatch } from "../../src/agent/outer_link_watch.ts";
import type { HeldLink, OuterLink } from "../../src/kernel/outer_link.ts";
import { type Family, IpAddress } from "../../src/net/ip.ts";

const GRACE_MS = 60;

function linkOf(name: string, index = 2, address = "192.0.2.1"): OuterLink {
  const addresses = [IpAddress.parse(address)];
  return { name, index, mtu_bytes: 1500, addresses, publicAddresses: addresses, ways: [] };
}

function setUp() {
  const told: string[] = [];
  let wake = () => {};
  const state = {
    choice: (): OuterLink => linkOf("eth0"),
    families: null as readonly Family[] | null,
    asked: [] as (readonly Family[])[],
    held: null as HeldLink | null,
    told,
    untilTold: async (count: number) => {
      while (told.length < count) await new Promise<void>((resolve) => wake = resolve);
    },
  };
  const tell = (what: string) => ({ name }: OuterLink) => {
    told.push(`${what} ${name}`);
    wake();
  };
  const options = {
    choose: (families: readonly Family[], held: HeldLink | null) => {
      state.asked.push(families);
      state.held = held;
      return state.choice();
    },
    held: { name: "eth7", addresses: [], isInUse: false },
    families: () => state.families,
    onMoved: tell("moved to"),
    onSame: tell("same"),
    onBack: () => {
      told.push("back");
      wake();
    },
  };
  return { state, make: () => new OuterLinkWatch(options, 10, GRACE_MS) };
}

describe("the watch on the outer link", () => {
  test("does not begin without one", () => {
    const { state, make } = setUp();
    state.choice = () => {
      throw new Error("there is none");
    };
    assert.throws(make, /there is none/);
  });

  test("follows nothing before the network is known; who waits can ask", () => {
    const { state, make } = setUp();
    const watch = make();
    state.choice = () => linkOf("eth1");
    watch.check();
    assert.deepEqual([watch.link.name, state.told], ["eth0", []]);
    assert.equal(watch.refresh().name, "eth1");
    state.choice = () => {
      throw new Error("there is none");
    };
    assert.equal(watch.refresh().name, "eth1");
    assert.deepEqual([watch.problem, state.told], [null, []]);
  });

  test("tells of another, and of the same, by the families that are in use", async () => {
    const { state, make } = setUp();
    const watch = make();
    state.families = [4, 6];
    for (const [i, link] of [linkOf("eth0"), linkOf("eth0", 3), linkOf("br0")].entries()) {
      state.choice = () => link;
      watch.check();
      await state.untilTold(i + 1);
    }
    assert.deepEqual(state.told, ["same eth0", "moved to eth0", "moved to br0"]);
    assert.deepEqual([watch.link.name, state.asked.at(-1)], ["br0", [4, 6]]);
    watch.stop();
  });

  test("an IPv6 address that the network has no use for is no move", async () => {
    const { state, make } = setUp();
    const watch = make();
    const { addresses: [v4], ...link } = linkOf("eth0");
    const addresses = [v4!, IpAddress.parse("2001:db8::1")];
    state.choice = () => ({ ...link, addresses, publicAddresses: addresses });
    state.families = [4];
    watch.check();
    assert.deepEqual(state.told, ["same eth0"]);
    state.choice = () => linkOf("eth0");
    state.families = [4, 6];
    watch.check();
    await state.untilTold(2);
    assert.deepEqual(state.told, ["same eth0", "moved to eth0"]);
  });

  test("while there is none it stays, says why, and looks again by itself", async () => {
    const { state, make } = setUp();
    const watch = make();
    state.families = [4];
    state.choice = () => {
      throw new Error("it has gone");
    };
    watch.check();
    assert.deepEqual([watch.link.name, state.told], ["eth0", []]);
    assert.match(watch.problem!, /outer interface eth0: it has gone/);
    state.choice = () => linkOf("br0");
    await state.untilTold(1);
    assert.deepEqual([watch.problem, state.told], [null, ["moved to br0"]]);
    watch.stop();
  });

  test("a link that carries nothing is a problem until it does, and no move", async () => {
    const { state, make } = setUp();
    const watch = make();
    state.families = [4];
    state.choice = () => ({ ...linkOf("eth0"), fault: "interface eth0 has no carrier" });
    watch.check();
    assert.equal(watch.problem, "interface eth0 has no carrier");
    state.choice = () => linkOf("eth0");
    await state.untilTold(2);
    assert.deepEqual([watch.problem, state.told], [null, ["same eth0", "same eth0", "back"]]);
    watch.check();
    await state.untilTold(4);
    assert.deepEqual(state.told.slice(3), ["same eth0"]);
    watch.stop();
  });

  test("asks for the link of the last run first, and then for the one in use", () => {
    const { state, make } = setUp();
    const watch = make();
    assert.equal(state.held?.name, "eth7");
    state.families = [4];
    watch.check();
    assert.deepEqual(
      { ...state.held, addresses: state.held?.addresses.map(String) },
      { name: "eth0", addresses: ["192.0.2.1"], isInUse: true },
    );
    watch.stop();
  });

  test("an address that is gone for a moment moves nothing", async () => {
    const { state, make } = setUp();
    const watch = make();
    state.families = [4];
    state.choice = () => linkOf("eth0", 2, "192.0.2.99");
    watch.check();
    assert.match(watch.problem!, /address 192.0.2.99 instead of 192.0.2.1/);
    assert.equal(watch.refresh().addresses.join(), "192.0.2.1");
    state.choice = () => linkOf("eth0");
    await state.untilTold(2);
    assert.deepEqual([watch.problem, state.told], [null, ["same eth0", "back"]]);
    // It counts anew: the next moment is no continuation of this one.
    await setTimeout(GRACE_MS);
    state.choice = () => linkOf("eth0", 2, "192.0.2.99");
    watch.check();
    assert.deepEqual(state.told.slice(2), []);
    watch.stop();
  });

  test("an address that stays away is followed, also while nothing else happens", async () => {
    const { state, make } = setUp();
    const watch = make();
    state.families = [4];
    state.choice = () => linkOf("eth0", 2, "192.0.2.99");
    const start_ms = performance.now();
    watch.check();
    await state.untilTold(1);
    assert.deepEqual([watch.problem, state.told], [null, ["moved to eth0"]]);
    assert.ok(performance.now() - start_ms >= GRACE_MS);
    assert.equal(watch.link.addresses.join(), "192.0.2.99");
    watch.stop();
  });

  test("what returns address by address is waited for, however long nothing was there", () => {
    const { state, make } = setUp();
    const watch = make();
    state.families = [4];
    state.choice = () => linkOf("eth0", 2, "192.0.2.99");
    watch.check();
    state.choice = () => {
      throw new Error("it has no address");
    };
    assert.equal(watch.refresh().addresses.join(), "192.0.2.1");
    state.choice = () => linkOf("eth0", 2, "192.0.2.99");
    assert.equal(watch.refresh().addresses.join(), "192.0.2.1");
    assert.deepEqual(state.told, []);
    watch.stop();
  });
});

test("an outer link that cannot be used is logged once, and so is its end", async () => {
  const lines: string[] = [];
  const sink = ({ message }: LogRecord) => lines.push(message.map(String).join(""));
  await configure({
    sinks: { lines: sink },
    loggers: [{ category: "selvage", sinks: ["lines"] }, { category: ["logtape", "meta"] }],
  });
  const { state, make } = setUp();
  const watch = make();
  try {
    state.families = [4];
    state.choice = () => ({ ...linkOf("eth0"), fault: "eth0 has no carrier" });
    watch.check();
    await state.untilTold(1);
    state.choice = () => linkOf("eth0");
    watch.check();
    await state.untilTold(3);
    state.choice = () => linkOf("eth1", 3, "192.0.2.9");
    watch.check();
    await state.untilTold(4);
    assert.deepEqual(lines, [
      "eth0 has no carrier",
      "outer interface eth0 can be used again",
      "outer interface eth0: it is down, or its address is gone. If that lasts for a second, " +
      "this host goes on with interface eth1 instead of eth0, address 192.0.2.9 instead of " +
      "192.0.2.1",
      "outer interface eth1 has changed: interface eth1 instead of eth0, " +
      "address 192.0.2.9 instead of 192.0.2.1",
    ]);
  } finally {
    watch.stop();
    await reset();
  }
});
