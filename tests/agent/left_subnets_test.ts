import assert from "node:assert/strict";
import { test } from "node:test";
import { LeftSubnets } from "../../src/agent/left_subnets.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { InterfaceAddress } from "../../src/netlink/address.ts";
import type { Link } from "../../src/netlink/link.ts";

const prefixes = (...texts: string[]) => texts.map((text) => IpPrefix.parse(text));

/** A host whose `cni0` has this address. */
function hostWith(text: string): { left: LeftSubnets; state: { text: string; asks: number } } {
  const state = { text, asks: 0 };
  const left = new LeftSubnets({
    addresses: () => {
      state.asks++;
      const entry = { address: IpAddress.parse(state.text), prefixLength: 24, linkIndex: 7 };
      return [entry as InterfaceAddress];
    },
    links: () => [{ index: 7, name: "cni0" } as Link],
  });
  return { left, state };
}

test("a bridge of a subnet that is held no more is named, until it has another address", () => {
  const { left, state } = hostWith("10.5.1.1");
  left.hold(prefixes("10.5.1.0/24"));
  assert.deepEqual([left.problems(), state.asks], [[], 0]);
  left.hold(prefixes("10.5.2.0/24"));
  const [problem, ...others] = left.problems();
  assert.match(
    problem!,
    /^cni0 has 10\.5\.1\.1\/24 of 10\.5\.1\.0\/24, which this host holds no more/,
  );
  assert.equal(others.length, 0);
  state.text = "10.5.2.1";
  assert.deepEqual(left.problems(), []);
});

test("a subnet that is held again is left no more; a family that stays is not left", () => {
  const { left } = hostWith("10.5.1.1");
  left.hold(prefixes("10.5.1.0/24", "fd00:1::/64"));
  left.hold(prefixes("10.5.2.0/24", "fd00:1::/64"));
  assert.equal(left.problems().length, 1);
  left.hold(prefixes("10.5.1.0/24", "fd00:1::/64"));
  assert.deepEqual(left.problems(), []);
});

test("a kernel that cannot be asked is no problem of this kind", () => {
  const left = new LeftSubnets({
    addresses: () => {
      throw new Error("EPERM");
    },
    links: () => [],
  });
  left.hold(prefixes("10.5.1.0/24"));
  left.hold(prefixes("10.5.2.0/24"));
  assert.deepEqual(left.problems(), []);
});
