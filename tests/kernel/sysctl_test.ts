/** Values under /proc/sys of a fresh network namespace. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { withNetns } from "../../ffi/netns.ts";
import { areSysctlsRight, reconcileSysctls } from "../../src/kernel/sysctl.ts";
import { createBridge } from "../../src/netlink/rtnetlink.ts";
import { withNamespaces } from "../netlink/namespace.ts";

const PATH = "net/ipv4/ip_forward";
const read = (path: string) => readFileSync(`/proc/sys/${path}`, "utf8").trim();

/** Runs in a namespace that does not forward. */
function inNamespace(body: () => void): void {
  withNamespaces(1, ({ netns, connection }) => {
    createBridge(connection, { name: "br.1" });
    withNetns(netns, () => {
      writeFileSync(`/proc/sys/${PATH}`, "0");
      body();
    });
  });
}

describe("sysctls", () => {
  test("are set once, and not written when they are as desired", () => {
    inNamespace(() => {
      const desired = [{ path: PATH, value: "1", isSet: true }];
      assert.deepEqual(reconcileSysctls(desired), {
        changes: ["set net.ipv4.ip_forward to 1"],
        changeCount: 1,
        problems: [],
        absent: [],
      });
      assert.equal(read(PATH), "1");
      assert.deepEqual(reconcileSysctls(desired), {
        changes: [],
        changeCount: 0,
        problems: [],
        absent: [],
      });
    });
  });

  test("that somebody changed are noticed without a change", () => {
    inNamespace(() => {
      const desired = [{ path: PATH, value: "0", isSet: true }];
      const absent = { path: "net/ipv4/conf/selvage.9/forwarding", value: "1", isSet: true };
      assert.ok(areSysctlsRight([...desired, absent]));
      writeFileSync(`/proc/sys/${PATH}`, "1");
      assert.ok(!areSysctlsRight(desired));
      assert.equal(read(PATH), "1");
    });
  });

  test("that are not ours are told of, with what to do, and left", () => {
    inNamespace(() => {
      const { changeCount, problems } = reconcileSysctls([{
        path: PATH,
        value: "1",
        isSet: false,
      }]);
      assert.equal(changeCount, 0);
      assert.deepEqual(problems, [
        'net.ipv4.ip_forward is not 1: it is 0; set it with "sysctl -w net.ipv4.ip_forward=1"',
      ]);
      assert.equal(read(PATH), "0");
      assert.deepEqual(reconcileSysctls([{ path: PATH, value: "0", isSet: false }]).problems, []);
    });
  });

  test("a device's dots are slashes in its name", () => {
    inNamespace(() => {
      const path = "net/ipv4/neigh/br.1/app_solicit";
      assert.equal(reconcileSysctls([{ path, value: "3", isSet: true }]).changeCount, 1);
      assert.equal(read(path), "3");
      const { problems } = reconcileSysctls([{ path, value: "4", isSet: false }]);
      assert.match(problems.join(), /^net\.ipv4\.neigh\.br\/1\.app_solicit is not 4: it is 3/);
    });
  });

  test("one that is not there, or takes no such value, is told of; the rest is done", () => {
    inNamespace(() => {
      const { changeCount, problems, absent } = reconcileSysctls([
        { path: "net/ipv4/neigh/selvage.9/app_solicit", value: "3", isSet: true },
        { path: PATH, value: "many", isSet: true },
        { path: PATH, value: "1", isSet: true },
      ]);
      assert.equal(changeCount, 1);
      assert.deepEqual([absent.length, problems.length], [1, 1]);
      assert.match(absent[0]!, /^net\.ipv4\.neigh\.selvage\/9\.app_solicit is not 3: .*ENOENT/);
      assert.match(problems[0]!, /^net\.ipv4\.ip_forward is not many: .*EINVAL/);
      assert.equal(read(PATH), "1");
    });
  });
});
