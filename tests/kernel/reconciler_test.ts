import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemError } from "../../ffi/errno.ts";
import { hasCode } from "../../src/errors.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type KernelState, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { addAddressRequest } from "../../src/netlink/address.ts";
import { decodeRoute, RTM_F_CLONED, RTM_GETROUTE, RTM_NEWROUTE } from "../../src/netlink/route.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";
import { ScriptedSocket } from "../netlink/scripted_socket.ts";
import { FakeKernel } from "./fake_kernel.ts";

const [ENOENT, EOPNOTSUPP, ENETUNREACH] = [2, 95, 101] as const;

const ON_LINK = { gateway: null, isOnLink: false, peerKey: null };
const DESIRED: KernelState = {
  ...NO_KERNEL_STATE,
  links: [{ name: "selvage0", kind: "tun", family: 4, mtu_bytes: 1472 }],
  addresses: [{ linkName: "selvage0", address: IpAddress.parse("10.5.1.0"), prefixLength: 32 }],
  routes: [{ destination: IpPrefix.parse("10.5.0.0/16"), linkName: "selvage0", ...ON_LINK }],
};
const DONE = { changeCount: 3, problems: [], peerProblems: new Map() };
const NOTHING_DONE = { changeCount: 0, problems: [], peerProblems: new Map() };

function setUp() {
  const kernel = new FakeKernel([
    { index: 2, name: "eth0", isUp: true },
    { index: 7, name: "selvage0", kind: "tun" },
  ]);
  return { kernel, reconciler: new Reconciler(kernel.connection) };
}

function route(destination: string, protocol: number, linkIndex = 2): Uint8Array {
  const prefix = IpPrefix.parse(destination);
  const newRoute = { destination: prefix, linkIndex, linkName: "", gateway: null, protocol };
  return addRouteRequest(newRoute, false).payload;
}

describe("the reconciler", () => {
  test("brings the desired state about; when nothing differs it writes nothing", () => {
    const { kernel, reconciler } = setUp();
    assert.deepEqual(reconciler.reconcile(DESIRED), DONE);
    assert.deepEqual(kernel.links[1], {
      index: 7,
      name: "selvage0",
      kind: "tun",
      mtu_bytes: 1472,
      isUp: true,
    });
    assert.deepEqual(kernel.addressTexts(), ["10.5.1.0/32 #7"]);
    assert.deepEqual(kernel.routeTexts(), ["10.5.0.0/16 #7 proto 83"]);
    assert.equal(kernel.writeCount, 3);
    assert.deepEqual(reconciler.reconcile(DESIRED), NOTHING_DONE);
    assert.equal(kernel.writeCount, 3);
  });

  test("removes what an earlier run left behind, and leaves what others made", () => {
    const { kernel, reconciler } = setUp();
    kernel.routes.push(route("10.9.0.0/16", 83), route("10.9.0.0/16", 4), route("fd00::/64", 83));
    assert.deepEqual(reconciler.reconcile(DESIRED), { ...NOTHING_DONE, changeCount: 5 });
    assert.deepEqual(kernel.routeTexts(), [
      "10.9.0.0/16 #2 proto 4",
      "10.5.0.0/16 #7 proto 83",
    ]);
  });

  test("leaves other tables and clones alone, also where the kernel does not filter", () => {
    const { kernel, reconciler } = setUp();
    const [elsewhere, cloned] = [route("10.8.0.0/16", 83), route("10.9.0.0/16", 83)];
    elsewhere[4] = 77;
    cloned[9] = RTM_F_CLONED >> 8;
    kernel.routes.push(elsewhere, cloned);
    assert.deepEqual(reconciler.reconcile(DESIRED), DONE);
    assert.equal(kernel.routes.length, 3);
  });

  test("a kernel without a table, or without IPv6, has no routes there", () => {
    for (const errno of [ENOENT, EOPNOTSUPP]) {
      const { kernel, reconciler } = setUp();
      kernel.refuseDump = ({ type }) => type === RTM_GETROUTE ? errno : 0;
      assert.deepEqual(reconciler.clear(), NOTHING_DONE);
    }
  });

  test("repairs what another hand broke", () => {
    const { kernel, reconciler } = setUp();
    reconciler.reconcile(DESIRED);
    kernel.links[1]!.isUp = false;
    kernel.addresses.length = 0;
    const added = { linkIndex: 7, linkName: "", address: IpAddress.parse("192.0.2.1") };
    kernel.addresses.push(addAddressRequest({ ...added, prefixLength: 24 }, false).payload);
    kernel.routes = [route("10.5.0.0/16", 83)];
    assert.deepEqual(reconciler.reconcile(DESIRED), { ...NOTHING_DONE, changeCount: 4 });
    assert.deepEqual(kernel.addressTexts(), ["10.5.1.0/32 #7"]);
    assert.deepEqual(kernel.routeTexts(), ["10.5.0.0/16 #7 proto 83"]);
    assert.equal(kernel.links[1]!.isUp, true);
  });

  test("what is undone while it works is done again in a further round", () => {
    const { kernel, reconciler } = setUp();
    let count = 0;
    kernel.afterWrite = () => {
      // As the kernel drops a device's routes with its first address.
      if (++count === 3) kernel.routes = [];
    };
    assert.deepEqual(reconciler.reconcile(DESIRED), { ...NOTHING_DONE, changeCount: 4 });
    assert.deepEqual(kernel.routeTexts(), ["10.5.0.0/16 #7 proto 83"]);
  });

  test("a fight with someone else ends, as a problem", () => {
    const { kernel, reconciler } = setUp();
    kernel.afterWrite = () => kernel.routes = [];
    const { problems } = reconciler.reconcile(DESIRED);
    assert.deepEqual(problems, ["another program keeps changing the kernel's tables"]);
    assert.ok(kernel.writeCount < 10, `${kernel.writeCount} writes`);
  });

  test("what the kernel refuses is a problem; the rest is done, and it is tried next time", () => {
    const { kernel, reconciler } = setUp();
    kernel.refuse = ({ type }) => type === RTM_NEWROUTE ? 1 : 0;
    const { changeCount, problems } = reconciler.reconcile(DESIRED);
    assert.equal(changeCount, 2);
    assert.deepEqual(problems, [
      "add route 10.5.0.0/16 dev selvage0: EPERM (operation not permitted)",
    ]);
    // All three, and the one that failed once more: not again and again.
    assert.equal(kernel.writeCount, 4);
    kernel.refuse = () => 0;
    assert.deepEqual(reconciler.reconcile(DESIRED), { ...NOTHING_DONE, changeCount: 1 });
  });

  /** A route to a peer's subnet through each of these hosts, 10.1.0.N. */
  function hostGw(...numbers: number[]): KernelState {
    const routes = numbers.map((n) => ({
      destination: IpPrefix.parse(`10.5.${n}.0/24`),
      linkName: "eth0",
      gateway: IpAddress.parse(`10.1.0.${n}`),
      isOnLink: false,
      peerKey: `10.5.${n}.0-24`,
    }));
    return { ...NO_KERNEL_STATE, routes };
  }

  test("a peer's problem names the peer, and all others are served", () => {
    const { kernel, reconciler } = setUp();
    const gatewayOf = (payload: Uint8Array) => `${decodeRoute(payload)?.nextHops[0]?.gateway}`;
    kernel.refuse = ({ type, payload }) =>
      type === RTM_NEWROUTE && gatewayOf(payload) === "10.1.0.2" ? ENETUNREACH : 0;
    kernel.routes.push(route("10.5.3.0/24", 4));
    const result = reconciler.reconcile(hostGw(1, 2, 3, 4));
    assert.deepEqual([result.changeCount, result.problems], [2, []]);
    assert.deepEqual([...result.peerProblems.keys()].sort(), ["10.5.2.0-24", "10.5.3.0-24"]);
    assert.match(result.peerProblems.get("10.5.2.0-24")!, /10\.5\.2\.0\/24 .*ENETUNREACH/);
    assert.match(result.peerProblems.get("10.5.3.0-24")!, /proto static is not ours/);
    assert.deepEqual(kernel.routeTexts(), [
      "10.5.3.0/24 #2 proto 4",
      "10.5.1.0/24 via 10.1.0.1 #2 proto 83",
      "10.5.4.0/24 via 10.1.0.4 #2 proto 83",
    ]);
    kernel.refuse = () => 0;
    kernel.routes.shift();
    const { changeCount, peerProblems } = reconciler.reconcile(hostGw(1, 2, 3, 4));
    assert.deepEqual([changeCount, peerProblems.size], [2, 0]);
  });

  test("while not all peers are known, what an earlier run left for them stays", () => {
    const { kernel, reconciler } = setUp();
    new Reconciler(kernel.connection).reconcile(hostGw(1, 2));
    kernel.writeCount = 0;
    assert.deepEqual(reconciler.reconcile(hostGw(1), true), NOTHING_DONE);
    assert.equal(kernel.writeCount, 0);
    assert.equal(reconciler.reconcile(hostGw(1, 3), true).changeCount, 1);
    assert.equal(kernel.routes.length, 3);
    // Then all are, and one has gone.
    assert.equal(reconciler.reconcile(hostGw(1, 3)).changeCount, 1);
    assert.deepEqual(kernel.routeTexts(), [
      "10.5.1.0/24 via 10.1.0.1 #2 proto 83",
      "10.5.3.0/24 via 10.1.0.3 #2 proto 83",
    ]);
  });

  test("a route that another hand replaced is put back; one that was there first is not", () => {
    const { kernel, reconciler } = setUp();
    reconciler.reconcile(hostGw(1));
    kernel.routes = [route("10.5.1.0/24", 4), route("10.5.2.0/24", 4)];
    const { changeCount, peerProblems } = reconciler.reconcile(hostGw(1, 2));
    assert.equal(changeCount, 1);
    assert.deepEqual([...peerProblems.keys()], ["10.5.2.0-24"]);
    assert.deepEqual(kernel.routeTexts(), [
      "10.5.1.0/24 via 10.1.0.1 #2 proto 83",
      "10.5.2.0/24 #2 proto 4",
    ]);
  });

  test("a foreign route in the way and a missing device are problems", () => {
    const { kernel, reconciler } = setUp();
    kernel.routes.push(route("10.5.0.0/16", 4));
    const blocked = reconciler.reconcile(DESIRED);
    assert.equal(blocked.changeCount, 2);
    assert.match(blocked.problems.join(), /^route 10.5.0.0\/16 dev eth0 proto static is not ours/);
    kernel.links.pop();
    const { problems } = reconciler.reconcile(DESIRED);
    assert.deepEqual(problems, ["tun device selvage0 is missing"]);
  });

  test("clear removes what is ours and nothing else", () => {
    const { kernel, reconciler } = setUp();
    kernel.routes.push(route("10.9.0.0/16", 4), route("10.8.0.0/16", 83));
    reconciler.reconcile(DESIRED);
    assert.deepEqual(reconciler.clear(), { ...NOTHING_DONE, changeCount: 2 });
    assert.deepEqual(kernel.addressTexts(), []);
    assert.deepEqual(kernel.routeTexts(), ["10.9.0.0/16 #2 proto 4"]);
    assert.deepEqual(reconciler.clear(), NOTHING_DONE);
  });

  test("a thousand routes go in a few sends", () => {
    const { kernel, reconciler } = setUp();
    const routes = Array.from({ length: 1000 }, (_, i) => ({
      destination: IpPrefix.of(IpAddress.of(4, 0x0a000000n + BigInt(i) * 256n), 24),
      linkName: "selvage0",
      ...ON_LINK,
    }));
    assert.deepEqual(reconciler.reconcile({ ...DESIRED, routes }), {
      ...NOTHING_DONE,
      changeCount: 1002,
    });
    assert.ok(kernel.socket.sends.length < 30, `${kernel.socket.sends.length} sends`);
  });

  test("a name that is taken is refused, with the kind of what has it", () => {
    const { reconciler } = setUp();
    reconciler.ensureNameFree("selvage1");
    for (const [name, kind] of [["selvage0", "tun"], ["eth0", "hardware"]] as const) {
      assert.throws(() => reconciler.ensureNameFree(name), (error) => {
        assert.ok(hasCode(error, "conflict"));
        assert.equal(error.message, `device ${name} exists already and is not ours (${kind})`);
        return true;
      });
    }
  });

  test("a kernel that cannot be read is an error, not an empty host", () => {
    const connection = new NetlinkConnection(new ScriptedSocket(() => []));
    assert.throws(() => new Reconciler(connection).reconcile(DESIRED), SystemError);
  });
});
