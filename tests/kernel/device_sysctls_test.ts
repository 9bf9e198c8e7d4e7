/** The values under /proc/sys of our devices, in a fresh network namespace. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openTun } from "../../ffi/tun.ts";
import {
  deviceSysctls,
  forwardingSysctls,
  reconcileDeviceSysctls,
} from "../../src/kernel/device_sysctls.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type DesiredLink, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import type { Family } from "../../src/net/ip.ts";
import { RTM_SETLINK } from "../../src/netlink/link.ts";
import { withNamespaces } from "../netlink/namespace.ts";
import { FakeKernel } from "./fake_kernel.ts";

const NAME = "selvage.1";
const read = (path: string) => readFileSync(`/proc/sys/net/${path}`, "utf8").trim();
const write = (path: string, value: string) => writeFileSync(`/proc/sys/net/${path}`, value);
const link = (family: Family): DesiredLink => ({
  name: NAME,
  kind: "tun",
  family,
  mtu_bytes: 1450,
});

/** Runs in a namespace with a device that is down and has what the kernel gives to new ones. */
function withDevice(body: () => void): void {
  withNamespaces(1, ({ netns }) => {
    withNetns(netns, () => {
      // The tests' hosts may have set something else for all namespaces.
      write("ipv6/conf/default/accept_ra", "1");
      const { fd } = openTun(NAME);
      try {
        body();
      } finally {
        closeFd(fd);
      }
    });
  });
}

describe("the values of our devices", () => {
  test("keep strangers' messages without effect, and are written once", () => {
    withDevice(() => {
      assert.equal(read(`ipv6/conf/${NAME}/accept_ra`), "1");
      const { changes, problems } = reconcileDeviceSysctls(link(6), NAME);
      assert.deepEqual(problems, []);
      assert.ok(changes.includes("set net.ipv6.conf.selvage/1.accept_ra to 0"));
      for (const { path, value } of deviceSysctls(link(6), NAME)) {
        assert.equal(read(path.slice("net/".length)), value, path);
      }
      assert.equal(read(`ipv6/conf/${NAME}/disable_ipv6`), "0");
      assert.equal(reconcileDeviceSysctls(link(6), NAME).changeCount, 0);
    });
  });

  test("a device of IPv4 has no IPv6", () => {
    withDevice(() => {
      reconcileDeviceSysctls(link(4), NAME);
      assert.equal(read(`ipv6/conf/${NAME}/disable_ipv6`), "1");
    });
  });

  test("what is not there is no problem: a kernel without IPv6, or a device that has gone", () => {
    withDevice(() => {
      const { changeCount, problems } = reconcileDeviceSysctls(link(6), "selvage.2");
      assert.deepEqual([changeCount, problems], [0, []]);
    });
  });

  test("stand before the device is set up, and again after a foreign hand", () => {
    withDevice(() => {
      const kernel = new FakeKernel([{ index: 7, name: NAME, kind: "tun" }]);
      let seen = "";
      kernel.refuse = ({ type }) => {
        if (type === RTM_SETLINK) seen = read(`ipv6/conf/${NAME}/accept_ra`);
        return 0;
      };
      const reconciler = new Reconciler(kernel.connection);
      const desired = { ...NO_KERNEL_STATE, links: [link(4)] };
      assert.deepEqual(reconciler.reconcile(desired).problems, []);
      assert.equal(seen, "0");
      write(`ipv6/conf/${NAME}/accept_ra`, "2");
      assert.equal(reconciler.reconcile(desired).changeCount, 1);
      assert.equal(read(`ipv6/conf/${NAME}/accept_ra`), "0");
      assert.deepEqual(reconciler.lastChanges, ["set net.ipv6.conf.selvage/1.accept_ra to 0"]);
    });
  });

  test("our IPv4 devices forward as the host is to", () => {
    const host = { path: "net/ipv4/ip_forward", value: "1", isSet: false };
    assert.deepEqual(forwardingSysctls([link(4), { ...link(6), name: "selvage-v6.1" }], [host]), [
      { path: `net/ipv4/conf/${NAME}/forwarding`, value: "1", isSet: false },
    ]);
    assert.deepEqual(forwardingSysctls([link(4)], []), []);
  });
});
