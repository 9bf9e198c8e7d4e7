import assert from "node:assert/strict";
import { test } from "node:test";
import { requireTun } from "../../src/agent/preflight.ts";
import { ANY_HOST, fallbackNotice, selectBackend } from "../../src/backend/select.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { hintOf } from "../../src/errors.ts";

const MISSING = "/dev/net/tun-that-is-not-there";

function thrownBy(isFallback: boolean): { text: string; hint: string } {
  try {
    requireTun(isFallback, MISSING);
  } catch (error) {
    return { text: (error as Error).message, hint: hintOf(error) };
  }
  throw new Error("nothing was thrown");
}

test("a kernel without the module vxlan: user space carries it, and that is said", () => {
  const noticeOf = (backend: object, hasVxlan: boolean) => {
    const text = JSON.stringify({ Network: "10.5.0.0/16", Backend: { Type: "vxlan", ...backend } });
    const config = parseNetworkConfig(text, "test");
    const host = { ...ANY_HOST, hasKernelVxlan: () => hasVxlan };
    return fallbackNotice(config, selectBackend(config, host));
  };
  assert.match(noticeOf({}, false)!, /carried in user space.*modprobe vxlan/);
  assert.equal(noticeOf({}, true), null);
  assert.equal(noticeOf({ Datapath: "userspace" }, false), null, "it was asked for");
});

test("without the module tun as well, both ways to carry vxlan are named", () => {
  const { text, hint } = thrownBy(true);
  assert.match(text, /no VXLAN devices, and \/dev\/net\/tun-that-is-not-there is not there/);
  assert.match(hint, /modprobe vxlan.*modprobe tun/);
});

test("without the module tun, what needs only that says so", () => {
  const { text, hint } = thrownBy(false);
  assert.equal(text, `${MISSING} is not there`);
  assert.match(hint, /^Load the kernel module \(modprobe tun\)/);
});
