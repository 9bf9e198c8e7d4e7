/** Keeping a kernel in memory as a plan has it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { KernelKeeper } from "../../src/agent/kernel_keeper.ts";
import { planFirewall } from "../../src/backend/plan_firewall.ts";
import { Firewall } from "../../src/kernel/firewall.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type KernelState, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { decodeRoute, RTM_NEWROUTE } from "../../src/netlink/route.ts";
import { FakeKernel } from "../kernel/fake_kernel.ts";
import { FakeNftables } from "../kernel/fake_nftables.ts";

const [EPERM, EBADMSG] = [1, 74] as const;
const FAST = IpPrefix.parse("10.5.1.0/24");
const SLOW = IpPrefix.parse("10.5.2.0/24");

function stateOf(...destinations: readonly IpPrefix[]): KernelState {
  return {
    ...NO_KERNEL_STATE,
    routes: destinations.map((destination) => ({
      destination,
      linkName: "eth0",
      gateway: null,
      isOnLink: false,
      peerKey: `${destination}`,
    })),
  };
}

async function withKeeper(
  body: (parts: {
    readonly keeper: KernelKeeper;
    readonly kernel: FakeKernel;
    readonly nftables: FakeNftables;
    /** Resolves after the next check. */
    readonly checked: () => Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  const kernel = new FakeKernel([{ index: 2, name: "eth0", isUp: true }]);
  const nftables = new FakeNftables();
  let wake = () => {};
  const keeper = new KernelKeeper({
    reconciler: new Reconciler(kernel.connection),
    firewall: new Firewall(() => nftables.connect()),
    firewallTables: planFirewall({
      networks: [IpPrefix.parse("10.5.0.0/16")],
      subnets: [IpPrefix.parse("10.5.9.0/24")],
      ipMasq: true,
      isFullyRandom: true,
      forwardRules: true,
    }),
    forwardAccepts: { reconcile: () => ({ changeCount: 0, problems: [] }) },
    forwarding: { networks: [], isInserting: false },
    sysctls: [],
    blackholes: [],
    outerLink: { name: "eth0", index: 2 },
    arePeersKnown: () => true,
    onChecked: () => wake(),
  });
  try {
    const checked = () => new Promise<void>((resolve) => wake = resolve);
    await body({ keeper, kernel, nftables, checked });
  } finally {
    keeper.stop();
  }
}

describe("the keeper of the kernel", () => {
  test("brings tables and rules about, and what another changed when it is told", () =>
    withKeeper(async ({ keeper, kernel, nftables, checked }) => {
      keeper.begin(stateOf(FAST));
      assert.deepEqual(kernel.routeTexts(), ["10.5.1.0/24 #2 proto 83"]);
      assert.equal(nftables.commitCount, 1);
      keeper.change(stateOf(SLOW));
      assert.deepEqual(kernel.routeTexts(), ["10.5.2.0/24 #2 proto 83"]);
      assert.ok(keeper.interest.destinations.has(`${SLOW}`));
      kernel.routes = [];
      nftables.tables.clear();
      const done = checked();
      keeper.check();
      await done;
      assert.deepEqual(kernel.routeTexts(), ["10.5.2.0/24 #2 proto 83"]);
      assert.equal(nftables.commitCount, 2);
      assert.deepEqual([keeper.problems, keeper.failed], [[], []]);
    }));

  test("tries again by itself what the firewall refused", () =>
    withKeeper(async ({ keeper, nftables, checked }) => {
      nftables.refuse = () => EPERM;
      const done = checked();
      keeper.begin(stateOf(FAST));
      assert.equal(keeper.problems.length, 1);
      nftables.refuse = () => 0;
      await done;
      assert.deepEqual([keeper.problems, nftables.commitCount], [[], 1]);
    }));

  test("a peer that cannot be had is left out by name, and tried again by itself", () =>
    withKeeper(async ({ keeper, kernel, checked }) => {
      kernel.refuse = ({ type, payload }) =>
        type === RTM_NEWROUTE && decodeRoute(payload)!.destination.equals(SLOW) ? EPERM : 0;
      const done = checked();
      keeper.begin(stateOf(FAST, SLOW));
      assert.deepEqual(kernel.routeTexts(), ["10.5.1.0/24 #2 proto 83"]);
      assert.deepEqual(keeper.failed.map(({ key }) => key), [`${SLOW}`]);
      assert.deepEqual(keeper.problems, []);
      kernel.refuse = () => 0;
      await done;
      assert.deepEqual([keeper.failed, kernel.routes.length], [[], 2]);
    }));

  test("tables that cannot be read are a problem, and read again", () =>
    withKeeper(async ({ keeper, kernel, checked }) => {
      kernel.refuseDump = () => EBADMSG;
      const done = checked();
      keeper.begin(stateOf(FAST));
      assert.match(keeper.problems.join(), /EBADMSG/);
      kernel.refuseDump = () => 0;
      await done;
      assert.deepEqual([keeper.problems, kernel.routes.length], [[], 1]);
    }));

  test("suspended, it leaves the kernel alone; stopped, too", () =>
    withKeeper(async ({ keeper, kernel }) => {
      keeper.begin(stateOf(FAST));
      keeper.suspend();
      kernel.routes = [];
      const sendCount = kernel.socket.sends.length;
      keeper.check();
      keeper.answer([{ linkIndex: 2, address: FAST.address, macAddress: null }]);
      assert.equal(kernel.socket.sends.length, sendCount);
      keeper.begin(stateOf(FAST));
      assert.equal(kernel.routes.length, 1);
      keeper.stop();
      kernel.routes = [];
      keeper.check();
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.equal(kernel.routes.length, 0);
    }));

  test("clears all of it, whatever part refuses", () =>
    withKeeper(async ({ keeper, kernel, nftables }) => {
      keeper.begin(stateOf(FAST));
      keeper.stop();
      kernel.refuseDump = () => EBADMSG;
      keeper.clear(true);
      assert.deepEqual([kernel.routes.length, nftables.tables.size], [1, 0]);
      kernel.refuseDump = () => 0;
      keeper.clear(true);
      assert.equal(kernel.routes.length, 0);
      await Promise.resolve();
    }));
});
