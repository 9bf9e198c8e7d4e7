import assert from "node:assert/strict";
import { test } from "node:test";
import { LeftSubnets } from "../../src/agent/left_subnets.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { InterfaceAddress } from "../../src/netlink/address.ts";
import type { Link } from "../../src/netlink/link.ts";

const prefixes = (...texts: string[]) => texts.map((text) => IpPrefix.parse(text));

const NETWORK = prefixes("10.5.0.0/16");

/** A host whose `cni0` has this address. */
function hostWith(
  text: string,
  kind: string | null = "bridge",
  outerLinkIndex: number | null = 2,
): { left: LeftSubnets; state: { text: string; asks: number } } {
  const state = { text, asks: 0 };
  const left = new LeftSubnets({
    addresses: () => {
      state.asks++;
      const entry = { address: IpAddress.parse(state.text), prefixLength: 24, linkIndex: 7 };
      return [entry as InterfaceAddress];
    },
    links: () => [{ index: 7, name: "cni0", kind } as Link],
    outerLinkIndex: () => outerLinkIndex,
  });
  return { left, state };
}

test("a bridge of a subnet that is held no more is named, until it has another address", () => {
  const { left, state } = hostWith("10.5.1.1");
  left.hold(prefixes("10.5.1.0/24"));
  assert.deepEqual(left.problems(NETWORK), []);
  left.hold(prefixes("10.5.2.0/24"));
  const [problem, ...others] = left.problems(NETWORK);
  assert.match(
    problem!,
    /^cni0 has 10\.5\.1\.1\/24, which is not of this host's subnet 10\.5\.2\.0\/24: containers/,
  );
  assert.equal(others.length, 0);
  state.text = "10.5.2.1";
  assert.deepEqual(left.problems(NETWORK), []);
});

test("a subnet that is held again is left no more; a family that stays is not left", () => {
  const { left } = hostWith("10.5.1.1");
  assert.deepEqual(left.hold(prefixes("10.5.1.0/24", "fd00:1::/64")), []);
  const gone = left.hold(prefixes("10.5.2.0/24", "fd00:1::/64"));
  assert.deepEqual(gone.map(String), ["10.5.1.0/24"]);
  assert.equal(left.problems(NETWORK).length, 1);
  left.hold(prefixes("10.5.1.0/24", "fd00:1::/64"));
  assert.deepEqual(left.problems(NETWORK), []);
});

test("one of a run before is known by what it is", () => {
  const { left, state } = hostWith("10.5.9.1");
  assert.deepEqual([left.problems(NETWORK), state.asks], [[], 0]);
  left.hold(prefixes("10.5.2.0/24"));
  assert.equal(left.problems(NETWORK).length, 1);
  // Another network of the host's own, of whatever kind.
  assert.deepEqual(left.problems(prefixes("10.6.0.0/16")), []);
  const other = hostWith("10.5.9.1", "veth").left;
  other.hold(prefixes("10.5.2.0/24"));
  assert.deepEqual(other.problems(NETWORK), []);
});

test("neither the outer interface nor a link that holds no containers is named", () => {
  for (const [kind, outer] of [[null, 2], ["vlan", 2], ["bridge", 7], ["veth", 7]] as const) {
    const { left } = hostWith("10.5.1.1", kind, outer);
    left.hold(prefixes("10.5.1.0/24"));
    left.hold(prefixes("10.5.2.0/24"));
    assert.deepEqual(left.problems(NETWORK), [], `${kind}, outer interface ${outer}`);
  }
  const { left } = hostWith("10.5.1.1", "veth");
  left.hold(prefixes("10.5.1.0/24"));
  left.hold(prefixes("10.5.2.0/24"));
  assert.match(left.problems(NETWORK)[0]!, /cut off; make them anew$/);
});

test("a kernel that cannot be asked is no problem of this kind", () => {
  const left = new LeftSubnets({
    addresses: () => {
      throw new Error("EPERM");
    },
    links: () => [],
    outerLinkIndex: () => null,
  });
  left.hold(prefixes("10.5.1.0/24"));
  left.hold(prefixes("10.5.2.0/24"));
  assert.deepEqual(left.problems(NETWORK), []);
});
