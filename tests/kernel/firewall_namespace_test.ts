/** The firewall against the real kernel and a foreign hand (nft), in a fresh namespace. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Netns } from "../../ffi/netns.ts";
import { planFirewall } from "../../src/backend/plan_firewall.ts";
import type { Firewall } from "../../src/kernel/firewall.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import type { NetlinkTransaction } from "../../src/netlink/connection.ts";
import { nftTransaction } from "../../src/netlink/nftables/batch.ts";
import { startPayload } from "../../src/netlink/nftables/layout.ts";
import {
  addTableRequest,
  NFTA_TABLE_FLAGS,
  NFTA_TABLE_NAME,
} from "../../src/netlink/nftables/table.ts";
import { getGeneration } from "../../src/netlink/nftables/nftables.ts";
import { withNamespaces } from "../netlink/namespace.ts";
import { connectNftables, nft, withFirewall } from "./nft.ts";

const INPUT = {
  networks: ["10.5.0.0/17", "fd05::/33"].map((text) => IpPrefix.parse(text)),
  subnets: ["10.5.1.0/24", "fd05:0:1::/64"].map((text) => IpPrefix.parse(text)),
  ipMasq: true,
  isFullyRandom: true,
  forwardRules: true,
};
/** How long a socket that was closed may live on. */
const OWNER_GONE_MS = 2_000;
const DESIRED = planFirewall(INPUT);
const NOTHING_DONE = { changeCount: 0, problems: [] };

/** What nft must make of our tables. */
function listing(family: "ip" | "ip6", network: string, subnet: string, multicast: string): string {
  const [from, to] = [`${family} saddr`, `${family} daddr`];
  return `table ${family} selvage {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		${from} ${subnet} ${to} ${network} return
		${from} ${network} ${to} ${subnet} return
		${from} != ${network} ${to} ${subnet} return
		${from} ${network} ${to} != ${multicast} masquerade fully-random
		${from} != ${network} ${to} ${network} masquerade fully-random
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		${from} ${network} accept
		${to} ${network} accept
	}
}
`;
}

const RIGHT = listing("ip", "10.5.0.0/17", "10.5.1.0/24", "224.0.0.0/4") +
  listing("ip6", "fd05::/33", "fd05:0:1::/64", "ff00::/8");

/** The making of an empty table `ip selvage` that only its maker may change. */
function ownedTable(): NetlinkTransaction {
  const table = { family: 4, name: "selvage" } as const;
  const NFT_TABLE_F_OWNER = 2;
  const payload = startPayload(4).attributeText(NFTA_TABLE_NAME, "selvage")
    .attributeU32be(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER).finish();
  return nftTransaction("own", "it", [{ ...addTableRequest(table), payload }]);
}

/** Both of our tables as nft reads them. */
function ours(netns: Netns): string {
  return nft(netns, "list table ip selvage") + nft(netns, "list table ip6 selvage");
}

function withNetfilter(body: (netns: Netns, firewall: Firewall) => void): void {
  withNamespaces(1, ({ netns }) => withFirewall(netns, (firewall) => body(netns, firewall)));
}

describe("the firewall in a fresh namespace", () => {
  test("brings the plan about as nft reads it, and then writes nothing", () => {
    withNetfilter((netns, firewall) => {
      assert.deepEqual(firewall.reconcile(DESIRED), { changeCount: 2, problems: [] });
      assert.equal(ours(netns), RIGHT);
      const connection = connectNftables(netns);
      try {
        const before = getGeneration(connection);
        assert.deepEqual(firewall.reconcile(DESIRED), NOTHING_DONE);
        withFirewall(netns, (afterRestart) => {
          assert.deepEqual(afterRestart.reconcile(DESIRED), NOTHING_DONE);
        });
        assert.equal(getGeneration(connection), before);
        nft(netns, "flush chain ip selvage postrouting");
        assert.equal(getGeneration(connection), before + 1);
        firewall.reconcile(DESIRED);
        assert.equal(getGeneration(connection), before + 2, "replaced in one step");
      } finally {
        connection.close();
      }
    });
  });

  test("repairs whatever a foreign hand does to what is ours", () => {
    withNetfilter((netns, firewall) => {
      firewall.reconcile(DESIRED);
      const hands = [
        "delete table ip selvage",
        "delete table ip6 selvage",
        "delete table ip selvage\ndelete table ip6 selvage",
        "flush ruleset",
        "flush table ip selvage",
        "flush chain ip6 selvage forward",
        "delete chain ip selvage postrouting",
        "add rule ip selvage postrouting accept",
        "insert rule ip selvage postrouting return",
        "insert rule ip6 selvage forward counter",
        "insert rule ip selvage forward ip saddr 10.5.0.0/17 drop",
        "chain ip selvage forward { policy drop; }",
        "table ip selvage { flags dormant; }",
        "add chain ip selvage mine",
        "add chain ip selvage mine\nadd rule ip selvage forward jump mine",
        "add set ip6 selvage mine { type ipv6_addr; }",
        "delete chain ip selvage forward\n" +
        "add chain ip selvage forward { type filter hook forward priority 10; }\n" +
        "add rule ip selvage forward ip saddr 10.5.0.0/17 accept\n" +
        "add rule ip selvage forward ip daddr 10.5.0.0/17 accept",
        "delete chain ip selvage forward\n" +
        "add chain ip selvage forward { type filter hook output priority 0; }\n" +
        "add rule ip selvage forward ip saddr 10.5.0.0/17 accept\n" +
        "add rule ip selvage forward ip daddr 10.5.0.0/17 accept",
        "flush chain ip selvage forward\n" +
        "add rule ip selvage forward ip daddr 10.5.0.0/17 accept\n" +
        "add rule ip selvage forward ip saddr 10.5.0.0/17 accept",
        "flush chain ip selvage forward\n" +
        "add rule ip selvage forward ip saddr 10.5.0.0/17 accept\n" +
        "add rule ip selvage forward ip daddr 10.5.0.0/17 drop",
        "flush chain ip selvage forward\n" +
        "add rule ip selvage forward ip saddr 10.5.0.0/17 accept\n" +
        "add rule ip selvage forward ip daddr != 10.5.0.0/17 accept",
        "flush chain ip6 selvage forward\n" +
        "add rule ip6 selvage forward ip6 saddr fd05::/33 accept\n" +
        "add rule ip6 selvage forward ip6 daddr fd05::/34 accept",
      ];
      for (const hand of hands) {
        nft(netns, hand);
        const { changeCount, problems } = firewall.reconcile(DESIRED);
        assert.deepEqual(problems, [], hand);
        assert.ok(changeCount > 0, `not noticed: ${hand}`);
        assert.equal(ours(netns), RIGHT, hand);
        assert.deepEqual(firewall.reconcile(DESIRED), NOTHING_DONE, hand);
      }
    });
  });

  test("one rule of many, deleted by its handle, comes back in its place", () => {
    withNetfilter((netns, firewall) => {
      firewall.reconcile(DESIRED);
      for (let number = 0; number < 6; number++) {
        const chain = nft(netns, "list chain ip selvage postrouting", "-a");
        const handles = [...chain.matchAll(/^\t\t.* # handle (\d+)$/gm)].map(([, handle]) =>
          handle
        );
        assert.equal(handles.length, 6);
        const handle = handles[number];
        nft(netns, `delete rule ip selvage postrouting handle ${handle}`);
        assert.deepEqual(firewall.reconcile(DESIRED), { changeCount: 1, problems: [] });
        assert.equal(ours(netns), RIGHT);
      }
    });
  });

  test("leaves alone what is not ours", () => {
    withNetfilter((netns, firewall) => {
      const foreign = `table ip other {
	chain selvage {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.5.0.0/17 counter packets 0 bytes 0 masquerade
	}
}
table inet selvage {
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
table ip selvage2 {
}
`;
      nft(netns, foreign);
      const before = nft(netns, "list ruleset");
      firewall.reconcile(DESIRED);
      const after = nft(netns, "list ruleset");
      for (const part of [before, ours(netns)]) assert.ok(after.includes(part), after);
      firewall.reconcile([]);
      assert.equal(nft(netns, "list ruleset"), before);
      assert.deepEqual(firewall.reconcile([]), NOTHING_DONE);
    });
  });

  test("takes over what an earlier run left, and removes what is no longer wanted", () => {
    withNetfilter((netns, firewall) => {
      firewall.reconcile(planFirewall({ ...INPUT, isFullyRandom: false }));
      assert.doesNotMatch(nft(netns, "list ruleset"), /fully-random/);
      withFirewall(netns, (next) => {
        assert.deepEqual(next.reconcile(DESIRED), { changeCount: 2, problems: [] });
        assert.equal(ours(netns), RIGHT);
        const forwardOnly = planFirewall({ ...INPUT, ipMasq: false });
        assert.deepEqual(next.reconcile(forwardOnly), { changeCount: 2, problems: [] });
        assert.doesNotMatch(nft(netns, "list ruleset"), /postrouting/);
        assert.deepEqual(next.reconcile([]), { changeCount: 2, problems: [] });
        assert.equal(nft(netns, "list ruleset"), "");
      });
    });
  });

  test("a table that another program owns is told of, and the other family's done", () => {
    withNetfilter((netns, firewall) => {
      // The kernel deletes an owned table with its owner's socket.
      const owner = connectNftables(netns);
      try {
        owner.transaction(ownedTable());
        const { changeCount, problems } = firewall.reconcile(DESIRED);
        assert.equal(changeCount, 1);
        assert.equal(problems.length, 1);
        assert.match(problems[0]!, /ip selvage: EPERM/);
      } finally {
        owner.close();
      }
      // A program that another test starts at that moment has a copy of the socket until it runs.
      const end_ms = performance.now() + OWNER_GONE_MS;
      let result = firewall.reconcile(DESIRED);
      while (result.changeCount === 0 && performance.now() < end_ms) {
        result = firewall.reconcile(DESIRED);
      }
      assert.deepEqual(result, { changeCount: 1, problems: [] });
      assert.equal(ours(netns), RIGHT);
    });
  });
});
