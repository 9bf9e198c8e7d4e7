import { test } from "node:test";
import assert from "node:assert/strict";
import { awaitNetwork, isFinal } from "../../src/agent/network.ts";
import { ANY_HOST } from "../../src/backend/select.ts";
import { SelvageError } from "../../src/errors.ts";
import type { OuterLink } from "../../src/kernel/outer_link.ts";
import { IpAddress } from "../../src/net/ip.ts";
import type { StoreState } from "../../src/store/store.ts";
import { FakeStore } from "../api/fake_control.ts";

const LINK: OuterLink = {
  name: "eth0",
  index: 2,
  mtu_bytes: 1500,
  addresses: [IpAddress.parse("192.0.2.1")],
  publicAddresses: [IpAddress.parse("192.0.2.1")],
  ways: [],
};

class StoreOfKind extends FakeStore {
  constructor(readonly kind: string) {
    super();
  }
  override state(): StoreState {
    return { ...super.state(), kind: this.kind };
  }
}

function wait(
  store: FakeStore,
  onWaiting: (phase: string, reason: string) => void,
  whyNotMade: () => string | null = () => null,
) {
  const { signal } = new AbortController();
  return awaitNetwork(store, () => LINK, ANY_HOST, signal, whyNotMade, onWaiting);
}

test("a device that cannot be made is waited for", async () => {
  const obstacles = ["VNI 1 is in use", null];
  const told: string[] = [];
  const onWaiting = (phase: string, reason: string) => told.push(`${phase}: ${reason}`);
  await wait(new FakeStore(), onWaiting, () => obstacles.shift()!);
  assert.deepEqual(told, ["starting: VNI 1 is in use"]);
});

test("a wrong password of etcd is waited for, a join string that is refused is not", async () => {
  const wrong = new SelvageError("unauthorized", "wrong user or password");
  const registry = new StoreOfKind("remote");
  registry.failure = wrong;
  await assert.rejects(wait(registry, () => {}), wrong);

  const etcd = new StoreOfKind("etcd");
  const failures = [wrong, new SelvageError("forbidden", "no rights"), null];
  etcd.failure = failures.shift()!;
  const told: string[] = [];
  const network = await wait(etcd, (phase, reason) => {
    told.push(`${phase}: ${reason}`);
    etcd.failure = failures.shift()!;
  });
  assert.equal(network.backend.type, "udp");
  assert.equal(told.length, 2);
  assert.match(told[0]!, /^waiting_for_store: wrong user or password; until .* is not mended$/);
  assert.match(told[1]!, /^waiting_for_store: no rights; until .* is not mended$/);
  assert.equal(isFinal(etcd, wrong), false);
});
