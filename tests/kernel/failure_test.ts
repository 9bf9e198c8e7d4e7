import assert from "node:assert/strict";
import { test } from "node:test";
import { failureText } from "../../src/kernel/failure.ts";
import { linkOf } from "./fake_kernel.ts";
import type { KernelOperation } from "../../src/kernel/operation.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { NetlinkError } from "../../src/netlink/error.ts";

const [EEXIST, EOPNOTSUPP] = [17, 95] as const;

test("a kernel that cannot make a device: what to load", () => {
  const operation: KernelOperation = {
    type: "create_link",
    desired: {
      kind: "ipip",
      name: "selvage.ipip",
      mtu_bytes: 1480,
      outerLinkIndex: 2,
      local: IpAddress.parse("192.0.2.1"),
    },
  };
  const error = new NetlinkError("create ipip", "selvage.ipip", EOPNOTSUPP, "Unknown device type");
  assert.match(failureText(operation, error, []), /EOPNOTSUPP.*; load .*\(modprobe ipip\)/);
});

test("a device that flanneld's ipip keeps from being made: what to do", () => {
  const local = IpAddress.parse("192.0.2.1");
  const operation: KernelOperation = {
    type: "create_link",
    desired: { kind: "ipip", name: "selvage.ipip", mtu_bytes: 1480, outerLinkIndex: 2, local },
  };
  const error = new NetlinkError("create ipip", "selvage.ipip", EEXIST, "");
  const ipip = { linkIndex: 2, local, remote: null };
  const other = { ...linkOf({ index: 7, name: "flannel.ipip", kind: "ipip" }), ipip };
  assert.match(
    failureText(operation, error, [other]),
    /^device flannel\.ipip already has the tunnel from 192\.0\.2\.1 .*selvage clean --flannel/,
  );
  assert.match(failureText(operation, error, []), /EEXIST/);
});

test("a VNI whose device is nowhere to be seen: where it may be, and what to do", () => {
  const operation: KernelOperation = {
    type: "create_link",
    desired: {
      kind: "vxlan",
      name: "selvage.1",
      mtu_bytes: 1450,
      macAddress: MacAddress.parse("02:00:00:00:00:01"),
      vni: 1,
      port: 8472,
      outerLinkIndex: 2,
      local: IpAddress.parse("192.0.2.1"),
      isLearning: false,
      isGbp: false,
      isProxy: false,
      isL2Miss: false,
    },
  };
  const error = new NetlinkError("create vxlan", "selvage.1", EEXIST, "VNI already exists");
  assert.match(
    failureText(operation, error, []),
    /^VNI 1 on port 8472 .* another network namespace, perhaps selvage\.1 .*ip -n .*Backend\.VNI/,
  );
});
