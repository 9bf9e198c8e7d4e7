import assert from "node:assert/strict";
import { test } from "node:test";
import { failureText } from "../../src/kernel/failure.ts";
import type { KernelOperation } from "../../src/kernel/operation.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { NetlinkError } from "../../src/netlink/error.ts";

const EOPNOTSUPP = 95;

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
