/** The firewall against nftables in memory that fails in every way. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errnoNumber, SystemError } from "../../ffi/errno.ts";
import { planFirewall } from "../../src/backend/plan_firewall.ts";
import { Firewall } from "../../src/kernel/firewall.ts";
import { type DesiredTable, GUARD_TABLE } from "../../src/kernel/firewall_state.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { NLM_F_DUMP_INTR, NLM_F_MULTI } from "../../src/netlink/message.ts";
import {
  NFT_MSG_DELTABLE,
  NFT_MSG_GETGEN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWTABLE,
} from "../../src/netlink/nftables/layout.ts";
import { acknowledge, datagram, done, reply, systemError } from "../netlink/scripted_socket.ts";
import { FakeNftables } from "./fake_nftables.ts";

const PREFIXES = {
  networks: ["10.5.0.0/16", "fd05::/16"].map((text) => IpPrefix.parse(text)),
  subnets: ["10.5.1.0/24", "fd05:1::/64"].map((text) => IpPrefix.parse(text)),
};
const DESIRED = planFirewall({
  ...PREFIXES,
  ipMasq: true,
  isFullyRandom: true,
  forwardRules: true,
});
const NOTHING_DONE = { changeCount: 0, problems: [] };
const DONE = { changeCount: 2, problems: [] };

function setUp() {
  const kernel = new FakeNftables();
  return { kernel, firewall: new Firewall(() => kernel.connect()) };
}

/** A firewall whose tables are in place. */
function setUpDone() {
  const both = setUp();
  assert.deepEqual(both.firewall.reconcile(DESIRED), DONE);
  return both;
}

describe("the firewall", () => {
  test("puts each table in place in one transaction, and then writes nothing", () => {
    const { kernel, firewall } = setUpDone();
    assert.equal(kernel.commitCount, 2);
    for (const family of [4, 6] as const) {
      const { chains, rules } = kernel.tables.get(family)!;
      assert.deepEqual([...chains.keys()], ["postrouting", "forward"]);
      assert.equal(rules.length, 8);
    }
    const sends = kernel.socket.sends.length;
    assert.deepEqual(firewall.reconcile(DESIRED), NOTHING_DONE);
    assert.equal(kernel.commitCount, 2);
    const types = new Set(kernel.socket.sends.slice(sends).flat().map(({ type }) => type));
    for (const write of [NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWRULE]) {
      assert.ok(!types.has(write), `${write}`);
    }
  });

  test("follows what is desired: another rule, a chain less, a family less, nothing", () => {
    const { kernel, firewall } = setUpDone();
    const plan = (isFullyRandom: boolean, forwardRules: boolean) =>
      planFirewall({ ...PREFIXES, ipMasq: true, isFullyRandom, forwardRules });
    const steps: readonly [DesiredTable[], number][] = [
      [plan(false, true), 2],
      [plan(false, false), 2],
      [plan(false, false).slice(0, 1), 1],
      [[], 1],
      [[], 0],
      [plan(true, true).slice(1), 1],
    ];
    for (const [desired, changeCount] of steps) {
      assert.deepEqual(firewall.reconcile(desired), { changeCount, problems: [] });
      assert.deepEqual([...kernel.tables.keys()], desired.map(({ family }) => family));
    }
  });

  test("one table that the kernel refuses does not keep the other from its place", () => {
    const { kernel, firewall } = setUp();
    kernel.refuse = ({ type, payload }) => type === NFT_MSG_NEWCHAIN && payload[0] === 10 ? 2 : 0;
    const result = firewall.reconcile(DESIRED);
    assert.equal(result.changeCount, 1);
    assert.deepEqual([...kernel.tables.keys()], [4]);
    assert.equal(result.problems.length, 1);
    assert.match(
      result.problems[0]!,
      /^add firewall chain of type nat ip6 selvage postrouting: ENOENT .*; load the modules/,
    );
    kernel.refuse = () => 0;
    assert.deepEqual(firewall.reconcile(DESIRED), { changeCount: 1, problems: [] });
  });

  test("a busy kernel is asked again", () => {
    const { kernel, firewall } = setUp();
    let count = 0;
    kernel.refuse = ({ type }) => type === NFT_MSG_NEWRULE && ++count < 20 ? 16 : 0;
    assert.deepEqual(firewall.reconcile(DESIRED), DONE);
    assert.equal(kernel.commitCount, 2);
  });

  test("when answers are lost it looks what came of it", () => {
    for (const wasDone of [true, false]) {
      const { kernel, firewall } = setUp();
      let count = 0;
      kernel.intervene = ({ type }) => {
        if (type !== 0x11 || ++count > 1) return null;
        if (wasDone) {
          // The transaction is carried out, and its answers do not come.
          const other = new FakeNftables();
          new Firewall(() => other.connect()).reconcile(DESIRED);
          kernel.tables.set(4, other.tables.get(4)!);
        }
        return [systemError("ENOBUFS")];
      };
      assert.deepEqual(firewall.reconcile(DESIRED), { changeCount: wasDone ? 1 : 2, problems: [] });
      assert.equal(kernel.commitCount, wasDone ? 1 : 2);
    }
  });

  test("a table that went while it was to be removed is as desired", () => {
    const { kernel, firewall } = setUpDone();
    kernel.refuse = ({ type }) => {
      if (type !== NFT_MSG_DELTABLE) return 0;
      kernel.tables.clear();
      return 2;
    };
    assert.deepEqual(firewall.reconcile([]), NOTHING_DONE);
  });

  test("who keeps changing it back is told of, and not fought for ever", () => {
    const { kernel, firewall } = setUp();
    kernel.afterCommit = () => kernel.tables.delete(6);
    const { problems } = firewall.reconcile(DESIRED);
    assert.deepEqual(problems, ["another program keeps changing firewall table ip6 selvage"]);
    assert.equal(kernel.commitCount, 4);
  });
});

describe("what the firewall reads", () => {
  test("is read again if it changed meanwhile", () => {
    const { kernel, firewall } = setUpDone();
    let count = 0;
    kernel.intervene = (message) => {
      if (message.type !== NFT_MSG_GETRULE || ++count > 1) return null;
      // Someone is replacing it, and done before the second look.
      kernel.generation += 1;
      return [done(message)];
    };
    assert.deepEqual(firewall.reconcile(DESIRED), NOTHING_DONE);
    assert.equal(count, 3);
  });

  test("that never stands still is taken as it came", () => {
    const { kernel, firewall } = setUpDone();
    kernel.intervene = ({ type }) => {
      if (type === NFT_MSG_GETTABLE) kernel.generation += 1;
      return null;
    };
    assert.deepEqual(firewall.reconcile(DESIRED), NOTHING_DONE);
  });

  test("of a dump that was interrupted is read again", () => {
    const { kernel, firewall } = setUpDone();
    let count = 0;
    kernel.intervene = (message) => {
      if (message.type !== NFT_MSG_GETRULE || ++count > 2) return null;
      return [done(message, 0, NLM_F_DUMP_INTR)];
    };
    assert.deepEqual(firewall.reconcile(DESIRED), NOTHING_DONE);
  });

  test("and cannot be understood is a problem, and nothing is written", () => {
    const { kernel, firewall } = setUpDone();
    kernel.intervene = (message) => {
      if (message.type !== NFT_MSG_GETRULE) return null;
      const rule = reply(message, NFT_MSG_NEWRULE, Uint8Array.of(2), NLM_F_MULTI);
      return [datagram(rule), done(message)];
    };
    const { changeCount, problems } = firewall.reconcile(DESIRED);
    assert.equal(changeCount, 0);
    assert.deepEqual(problems, Array(2).fill("netlink firewall rule: 1 bytes"));
    assert.equal(kernel.commitCount, 2);
  });
});

describe("a host that cannot", () => {
  const NONE = /^this kernel has no nftables, which --ip-masq needs.*: load the module nf_tables, /;

  test("has no netfilter over netlink at all", () => {
    const firewall = new Firewall(() => {
      throw new SystemError("open a netlink socket", errnoNumber("EPROTONOSUPPORT"));
    });
    const { changeCount, problems } = firewall.reconcile(DESIRED);
    assert.equal(changeCount, 0);
    assert.equal(problems.length, 1);
    assert.match(problems[0]!, NONE);
    assert.deepEqual(firewall.reconcile([]), NOTHING_DONE);
  });

  test("has no nf_tables", () => {
    for (const errno of [22, 95]) {
      const { kernel, firewall } = setUp();
      kernel.intervene = (message) => [acknowledge(message, errno)];
      assert.match(firewall.reconcile(DESIRED).problems.join("\n"), NONE);
      assert.deepEqual(firewall.reconcile([]), NOTHING_DONE);
      kernel.intervene = () => null;
      assert.deepEqual(firewall.reconcile(DESIRED), DONE, "loaded meanwhile");
    }
  });

  test("is no problem without masquerading: what is not filtered is forwarded", () => {
    const FORWARD = planFirewall({
      ...PREFIXES,
      ipMasq: false,
      isFullyRandom: true,
      forwardRules: true,
    });
    for (const errno of [95, 97]) {
      const { kernel, firewall } = setUp();
      kernel.refuse = ({ type }) => type === NFT_MSG_NEWCHAIN ? errno : 0;
      assert.deepEqual(firewall.reconcile(FORWARD), NOTHING_DONE);
      kernel.intervene = (message) => [acknowledge(message, 95)];
      assert.deepEqual(firewall.reconcile(FORWARD), NOTHING_DONE);
      kernel.intervene = () => null;
      // But what the kernel has, and does not let us use, is.
      kernel.refuse = () => 1;
      assert.match(firewall.reconcile(FORWARD).problems.join(), /EPERM/);
    }
  });

  test("is no problem for the guard, and says what the host is open to", () => {
    const { kernel, firewall } = setUp();
    const hosts = { name: "hosts", key: ["ipv4_addr"], elements: new Set<string>() } as const;
    const guard = { family: 4, name: GUARD_TABLE, sets: [hosts], chains: [] } as const;
    kernel.intervene = (message) => [acknowledge(message, 95)];
    assert.deepEqual(firewall.reconcile([guard]), NOTHING_DONE);
    assert.match(firewall.guardFault!, /no nftables, so the tunnel is not guarded: local users.*/);
    assert.deepEqual(firewall.reconcile([]), NOTHING_DONE);
    assert.equal(firewall.guardFault, null);
  });

  test("does not give the right", () => {
    const { kernel, firewall } = setUp();
    kernel.intervene = (message) => [acknowledge(message, 1)];
    for (const desired of [DESIRED, []]) {
      const { problems } = firewall.reconcile(desired);
      assert.equal(problems.length, 1);
      assert.match(problems[0]!, /EPERM.*CAP_NET_ADMIN/);
    }
  });

  test("leaves a question unanswered: the next call has a new connection", () => {
    const { kernel } = setUp();
    let opened = 0;
    const firewall = new Firewall(() => {
      opened += 1;
      return kernel.connect();
    });
    kernel.intervene = ({ type }) => type === NFT_MSG_GETTABLE ? [] : null;
    const { problems } = firewall.reconcile(DESIRED);
    assert.equal(problems.length, 4, "of each of our tables");
    assert.match(problems[0]!, /EAGAIN/);
    kernel.intervene = ({ type }) => type === NFT_MSG_GETGEN ? [] : null;
    assert.match(firewall.reconcile(DESIRED).problems.join(), /^[^,]*EAGAIN[^,]*$/);
    kernel.intervene = () => null;
    const before = opened;
    assert.deepEqual(firewall.reconcile(DESIRED), DONE);
    assert.equal(opened, before + 1);
    firewall.close();
    assert.ok(kernel.socket.isClosed);
  });
});
