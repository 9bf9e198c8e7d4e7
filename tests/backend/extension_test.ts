import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PlanInput } from "../../src/backend/backend.ts";
import {
  checkCommandData,
  extensionBackend,
  withCommandData,
} from "../../src/backend/extension.ts";
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { hasCode } from "../../src/errors.ts";
import { NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { leaseOf, LINK as SAMPLE_LINK, MACS } from "./sample.ts";

const config = (backend: Record<string, unknown> = {}, network: Record<string, unknown> = {}) =>
  parseNetworkConfig(
    JSON.stringify({
      Network: "10.210.0.0/16",
      Backend: { Type: "extension", ...backend },
      ...network,
    }),
    "test",
  );

/** What it publishes is another address than its interface has. */
const LINK = {
  ...SAMPLE_LINK,
  addresses: [IpAddress.parse("192.0.2.1")],
  publicAddresses: [IpAddress.parse("203.0.113.1")],
};
function lease(key: string, address: string, changes: Partial<Lease> = {}): Lease {
  return { ...leaseOf(key, [address], "extension"), ...changes };
}

const input = (peers: Lease[]): PlanInput => ({
  config: config(),
  link: LINK,
  vtepMacs: MACS,
  lease: lease("10.210.5.0-24", "203.0.113.1"),
  peers,
});

describe("extension backend", () => {
  test("flannel's options by their names, without regard to case; an empty one is none", () => {
    const commands = extensionBackend.commands!(config({
      PreStartupCommand: "a",
      postStartupCommand: "b",
      ShutdownCommand: "c",
      SubnetAddCommand: "d",
      SubnetRemoveCommand: "",
    }));
    assert.deepEqual(commands, {
      preStartup: "a",
      postStartup: "b",
      shutdown: "c",
      subnetAdd: "d",
      subnetRemove: null,
    });
  });

  test("a command that is no text is refused by its name", () => {
    for (const value of [5, true, ["ip"], { a: 1 }, "a\0b"]) {
      assert.throws(
        () => extensionBackend.check(config({ SubnetAddCommand: value }), null),
        /Backend\.SubnetAddCommand .* is not a text/,
      );
    }
    extensionBackend.check(config({ SubnetAddCommand: null }), LINK);
  });

  test("it needs an address of each family to tell the others", () => {
    const dual = config({}, { EnableIPv6: true, IPv6Network: "fd00::/48" });
    extensionBackend.check(dual, null);
    assert.throws(() => extensionBackend.check(dual, LINK), /eth0 has no IPv6 address/);
    const noAddress = { ...LINK, publicAddresses: [] };
    assert.throws(() => extensionBackend.check(config(), noAddress), /eth0 has no IPv4 address/);
  });

  test("its commands need the host's consent, if there are any", () => {
    const unwilling = { ...ANY_HOST, allowsCommands: false };
    const withCommand = config({ SubnetAddCommand: "id" });
    assert.throws(
      () => selectBackend(withCommand, unwilling),
      (error) =>
        hasCode(error, "permission") && /does not allow/.test(error.message) &&
        /--allow-extension/.test(error.hint) &&
        // A host that does not start has no daemon that could be asked for them.
        /SubnetAddCommand "id"/.test(error.hint) && !/config get/.test(error.hint),
    );
    assert.equal(selectBackend(withCommand, ANY_HOST), extensionBackend);
    assert.equal(selectBackend(config(), unwilling), extensionBackend);
  });

  test("a peer of both families is one, with what is served of it", () => {
    const both = config({}, { EnableIPv6: true, IPv6Network: "fd00::/48" });
    const link = {
      ...LINK,
      publicAddresses: [...LINK.publicAddresses, IpAddress.parse("2001:db8::1")],
    };
    const own = leaseOf(
      "10.210.5.0-24&fd00:0:0:5::-64",
      ["203.0.113.1", "2001:db8::1"],
      "extension",
    );
    const peers = [
      leaseOf("10.210.6.0-24&fd00:0:0:6::-64", ["203.0.113.6", "2001:db8::6"], "extension"),
      leaseOf("10.210.7.0-24", ["203.0.113.7"], "extension"),
    ];
    const { commandPeers, skipped } = extensionBackend.plan({
      config: both,
      link,
      vtepMacs: MACS,
      lease: own,
      peers,
    });
    const shown = commandPeers!.map(({ subnet, address, ipv6 }) =>
      [subnet, address, ipv6?.subnet ?? "", ipv6?.address ?? ""].join(" ").trim()
    );
    assert.deepEqual(shown, [
      "10.210.6.0/24 203.0.113.6 fd00:0:0:6::/64 2001:db8::6",
      "10.210.7.0/24 203.0.113.7",
    ]);
    assert.match(skipped[0]!.reason, /no IPv6 subnet .*; its other family is served/);
  });

  test("it is found by its type, and leaves kernel and MTU to the commands", () => {
    assert.equal(selectBackend(config(), ANY_HOST), extensionBackend);
    assert.equal(extensionBackend.mtu_bytes(config(), LINK), 1500);
    assert.deepEqual(extensionBackend.tunnels(config(), LINK, MACS), []);
    const { kernel, forwarding } = extensionBackend.plan(input([]));
    assert.deepEqual([kernel, forwarding], [NO_KERNEL_STATE, []]);
  });

  test("what PreStartupCommand printed is in the lease, up to a bound", () => {
    const attributes = extensionBackend.attributes(config(), LINK, MACS);
    assert.deepEqual(attributes, {
      publicAddresses: LINK.publicAddresses,
      backendType: "extension",
      backendData: {},
    });
    assert.deepEqual(withCommandData(attributes, null).backendData, {});
    assert.deepEqual(withCommandData(attributes, "").backendData, { 4: "" });
    assert.deepEqual(withCommandData(attributes, "02:aa").backendData, { 4: "02:aa" });
    checkCommandData("x".repeat(8192));
    assert.throws(
      () => checkCommandData("x".repeat(8193)),
      (error) => hasCode(error, "too_large") && /PreStartupCommand/.test(error.message),
    );
  });

  test("each peer with its data; one without has none", () => {
    const { commandPeers, skipped } = extensionBackend.plan(input([
      lease("10.210.6.0-24", "203.0.113.6", { backendData: { 4: "02:aa" } }),
      lease("10.210.7.0-24", "203.0.113.7"),
    ]));
    assert.deepEqual(skipped, []);
    assert.deepEqual(JSON.parse(JSON.stringify(commandPeers)), [
      {
        key: "10.210.6.0-24",
        subnet: "10.210.6.0/24",
        address: "203.0.113.6",
        data: "02:aa",
        ipv6: null,
      },
      {
        key: "10.210.7.0-24",
        subnet: "10.210.7.0/24",
        address: "203.0.113.7",
        data: "",
        ipv6: null,
      },
    ]);
  });

  test("peers that cannot be served are left out, each with its reason", () => {
    const { commandPeers, skipped } = extensionBackend.plan(input([
      lease("10.210.6.0-24", "203.0.113.6", { backendType: "vxlan" }),
      lease("10.210.7.0-24", "203.0.113.7", { backendData: { 4: { VtepMAC: "02:aa" } } }),
      lease("10.210.8.0-24", "203.0.113.1"),
      lease("10.210.5.128-25", "203.0.113.9"),
      lease("10.210.10.0-24", "203.0.113.10"),
    ]));
    assert.deepEqual(commandPeers?.map(({ key }) => key), ["10.210.10.0-24"]);
    assert.deepEqual(skipped.map(({ key, reason }) => [key, reason]), [
      ["10.210.6.0-24", "its backend is vxlan, ours is extension"],
      ["10.210.7.0-24", "its BackendData is not a text"],
      ["10.210.8.0-24", "it has our public address 203.0.113.1"],
      ["10.210.5.128-25", "its subnet overlaps ours"],
    ]);
  });
});
