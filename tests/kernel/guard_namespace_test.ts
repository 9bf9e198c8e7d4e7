/** The guard's tables against the real kernel and a foreign hand (nft), in a fresh namespace. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Netns } from "../../ffi/netns.ts";
import type { Backend, PlanInput } from "../../src/backend/backend.ts";
import { hostGwBackend } from "../../src/backend/host_gw.ts";
import { ipipBackend } from "../../src/backend/ipip.ts";
import { planGuard } from "../../src/backend/plan_guard.ts";
import { udpBackend } from "../../src/backend/udp.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import type { Firewall } from "../../src/kernel/firewall.ts";
import type { DesiredTable } from "../../src/kernel/firewall_state.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { configOf, DUAL, inputOf, leaseOf, MACS } from "../backend/sample.ts";
import { withNamespaces } from "../netlink/namespace.ts";
import { nft, withFirewall } from "./nft.ts";

const NOTHING_DONE = { changeCount: 0, problems: [] };

/** What a node with this backend and these peers guards. */
function guardOf(
  backend: Backend,
  peers: readonly Lease[],
  network: Record<string, unknown> = {},
  options: Record<string, unknown> = {},
): DesiredTable[] {
  const input: PlanInput = inputOf(configOf({ Type: backend.type, ...options }, network), peers);
  const plan = backend.plan(input);
  return planGuard({
    ...input,
    served: plan.served,
    tunnels: backend.tunnels(input.config, input.link, MACS),
    links: plan.kernel.links,
    isDirect: backend.isDirect?.(input.config) ?? false,
    trustsUnderlay: false,
    allowsOutsideSources: false,
    uid: 0,
  });
}

const mac = (n: number) => `02:00:00:01:${hexByte(n >>> 8)}:${hexByte(n & 0xff)}`;
const hexByte = (n: number) => n.toString(16).padStart(2, "0");

/** The peer with this number, 1 at least, in both families. */
function peer(n: number, type: string): Lease {
  const group = n.toString(16);
  return leaseOf(
    `10.${128 + (n >>> 8)}.${n & 0xff}.0-24&fc00:0:0:${(0x1000 + n).toString(16)}::-64`,
    [`172.16.${n >>> 8}.${n & 0xff}`, `2001:db8:1::${group}`],
    type,
    { 4: { VNI: 1, VtepMAC: mac(n) }, 6: { VNI: 1, VtepMAC: mac(n) } },
  );
}

const peers = (count: number, type: string) =>
  Array.from({ length: count }, (_, i) => peer(i + 1, type));

const WIDE = { Network: "10.128.0.0/9" };

function withGuard(body: (netns: Netns, firewall: Firewall) => void): void {
  withNamespaces(1, ({ netns }) => withFirewall(netns, (firewall) => body(netns, firewall)));
}

/** A listing that nft could not load again would cost a host all its rules at the next boot. */
function assertReloads(netns: Netns): void {
  const listing = nft(netns, "list ruleset");
  nft(netns, `flush ruleset\n${listing}`);
  assert.match(nft(netns, "list ruleset"), /guard_(outside_tunnel|source_not_own)/);
}

const CASES: readonly (readonly [string, DesiredTable[]])[] = [
  ["vxlan, both families", guardOf(vxlanBackend, peers(3, "vxlan"), { ...WIDE, ...DUAL })],
  [
    "vxlan with DirectRouting",
    guardOf(vxlanBackend, peers(3, "vxlan"), WIDE, { DirectRouting: true }),
  ],
  ["ipip", guardOf(ipipBackend, peers(3, "ipip"), WIDE)],
  ["udp", guardOf(udpBackend, peers(3, "udp"), WIDE)],
  ["host-gw", guardOf(hostGwBackend, [], { ...WIDE, ...DUAL })],
];

describe("the guard's tables", () => {
  for (const [name, desired] of CASES) {
    test(`of ${name} are as planned, then nothing is written, and all is removed`, () => {
      withGuard((netns, firewall) => {
        assert.ok(desired.length > 0);
        const { changeCount, problems } = firewall.reconcile(desired);
        assert.deepEqual([problems, firewall.guardFault], [[], null]);
        assert.ok(changeCount >= desired.length);
        assert.deepEqual(firewall.reconcile(desired), NOTHING_DONE);
        assertReloads(netns);
        // nft writes some rules otherwise than we do, with the same meaning.
        assert.deepEqual(firewall.reconcile(desired).problems, []);
        withFirewall(netns, (afterRestart) => {
          assert.deepEqual(afterRestart.reconcile(desired), NOTHING_DONE);
        });
        firewall.reconcile([]);
        assert.equal(nft(netns, "list ruleset"), "");
      });
    });
  }
});
