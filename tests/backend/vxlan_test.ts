import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PlanInput } from "../../src/backend/backend.ts";
import { ANY_HOST, configWarnings, selectBackend } from "../../src/backend/select.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import { userspaceVxlanBackend } from "../../src/backend/vxlan_userspace.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { hasCode, SelvageError } from "../../src/errors.ts";
import { NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import type { OuterLink } from "../../src/kernel/outer_link.ts";
import { type Lease, parseLeaseKey } from "../../src/lease/lease.ts";
import { formatLeaseValue, parseLeaseValue } from "../../src/lease/lease_value.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { configOf, DUAL, leaseOf, LINK, MACS, plain } from "./sample.ts";

function config(backend: Record<string, unknown> = {}, network: Record<string, unknown> = {}) {
  return configOf({ Type: "vxlan", ...backend }, network);
}

const ONLY_V6 = { ...DUAL, EnableIPv4: false };
/** Of a route of the whole network. */
const NETWORK = { gateway: null, isOnLink: false, peerKey: null };

const vtep = (last: string, VNI = 1) => ({ VNI, VtepMAC: `02:00:00:00:00:${last}` });

function lease(key: string, addresses: string[], backendData: Lease["backendData"]): Lease {
  return leaseOf(key, addresses, "vxlan", backendData);
}

const V4 = lease("10.210.7.0-24", ["192.0.2.7"], { 4: vtep("07") });
const BOTH = lease("10.210.8.0-24&fc00:0:0:8::-64", ["192.0.2.8", "2001:db8::8"], {
  4: vtep("08"),
  6: vtep("68"),
});
const OWN_V4 = lease("10.210.5.0-24", ["192.0.2.1"], {});
const OWN_BOTH = lease("10.210.5.0-24&fc00:0:0:5::-64", ["192.0.2.1", "2001:db8::1"], {});

const input = (peers: Lease[], changes: Partial<PlanInput> = {}): PlanInput => ({
  config: config(),
  link: LINK,
  vtepMacs: MACS,
  lease: OWN_V4,
  peers,
  ...changes,
});
const dual = (peers: Lease[], changes: Partial<PlanInput> = {}): PlanInput =>
  input(peers, { config: config({}, DUAL), lease: OWN_BOTH, ...changes });

describe("what a node of vxlan is", () => {
  test("it is chosen by its type, its datapath and what the kernel has", () => {
    const [withVxlan, without] = [true, false].map((is) => ({
      ...ANY_HOST,
      hasKernelVxlan: () => is,
    }));
    const choose = (backend: Record<string, unknown>, host = withVxlan!) =>
      selectBackend(config(backend), host);
    assert.equal(choose({}), vxlanBackend);
    assert.equal(choose({}, without), userspaceVxlanBackend);
    assert.equal(choose({ Datapath: "kernel" }), vxlanBackend);
    assert.equal(choose({ Datapath: "userspace" }), userspaceVxlanBackend);
    for (const [name, value] of [["Datapath", "kernel"], ["GBP", true], ["Generation", 2]]) {
      assert.throws(
        () => choose({ [`${name}`]: value }, without),
        (error) => hasCode(error, "unsupported") && `${error}`.includes(`${name}`),
      );
    }
  });

  test("one tunnel a family, with flannel's port and the MTU that is left", () => {
    const vxlan = (family: 4 | 6) => ({ type: "vxlan", vni: 1, vtepMac: `${MACS[family]}` });
    const v4 = { family: 4, device: "selvage.1", port: 8472, mtu_bytes: 1450 };
    const v6 = { family: 6, device: "selvage-v6.1", port: 8472, mtu_bytes: 1430 };
    const tunnels = (network: Record<string, unknown>) =>
      plain(userspaceVxlanBackend.tunnels(config({}, network), LINK, MACS));
    assert.deepEqual(tunnels({}), [{ ...v4, encapsulation: vxlan(4) }]);
    assert.deepEqual(tunnels(ONLY_V6), [{ ...v6, encapsulation: vxlan(6) }]);
    assert.deepEqual(tunnels(DUAL), [
      { ...v4, encapsulation: vxlan(4) },
      { ...v6, encapsulation: vxlan(6) },
    ]);
  });

  test("the kernel gets flannel's devices, addresses and routes", () => {
    assert.deepEqual(plain(userspaceVxlanBackend.plan(dual([])).kernel), {
      ...NO_KERNEL_STATE,
      links: [
        { name: "selvage.1", kind: "tun", family: 4, mtu_bytes: 1450 },
        { name: "selvage-v6.1", kind: "tun", family: 6, mtu_bytes: 1430 },
      ],
      addresses: [
        { linkName: "selvage.1", address: "10.210.5.0", prefixLength: 32 },
        { linkName: "selvage-v6.1", address: "fc00:0:0:5::", prefixLength: 128 },
      ],
      routes: [
        { destination: "10.210.0.0/16", linkName: "selvage.1", ...NETWORK },
        { destination: "fc00::/48", linkName: "selvage-v6.1", ...NETWORK },
      ],
      sysctls: [],
    });
  });

  test("what it publishes is what flannel writes, byte for byte", () => {
    const published = (network: Record<string, unknown>) =>
      formatLeaseValue(userspaceVxlanBackend.attributes(config({ VNI: 7 }, network), LINK, MACS));
    // IPv6 only where the network has it, whatever the interface has.
    const addresses = (v6: string) =>
      `{"PublicIP":"192.0.2.1","PublicIPv6":${v6},"BackendType":"vxlan"`;
    const v4 = '"BackendData":{"VNI":7,"VtepMAC":"02:00:00:00:00:04"}';
    const v6 = '"BackendV6Data":{"VNI":7,"VtepMAC":"02:00:00:00:00:06"}';
    assert.equal(published({}), `${addresses("null")},${v4}}`);
    assert.equal(published(DUAL), `${addresses('"2001:db8::1"')},${v4},${v6}}`);
  });

  test("the host's MTU is one that every family carries", () => {
    const mtu_bytes = (network: Record<string, unknown>, options = {}) =>
      userspaceVxlanBackend.mtu_bytes(config(options, network), LINK);
    assert.equal(mtu_bytes({}), 1450);
    assert.equal(mtu_bytes(DUAL), 1430);
    assert.equal(mtu_bytes({}, { MTU: 1400 }), 1350);
    assert.equal(mtu_bytes({}, { MTU: 9000 }), 1450, "more than the interface carries");
    assert.equal(mtu_bytes({}, { MTU: 0 }), 1450);
  });

  test("a device's name fits the kernel's limit whatever the VNI", () => {
    for (const VNI of [1, 9999, 10_000, 9_999_999, 16_777_215]) {
      const names = userspaceVxlanBackend.tunnels(config({ VNI }, DUAL), LINK, MACS)
        .map(({ device }) => device);
      assert.equal(new Set(names).size, 2);
      for (const name of names) assert.ok(name.length <= 15 && name.includes(`${VNI}`), name);
    }
  });
});

describe("options", () => {
  const check = (options: Record<string, unknown>, link: OuterLink | null = LINK) =>
    userspaceVxlanBackend.check(config(options), link);

  test("flannel's are taken, whatever their case, and ours", () => {
    for (
      const options of [
        { VNI: 16_777_215, Port: 4789, MTU: 1400 },
        { vni: 1, PORT: 65535, mtu: 0 },
        { GBP: false, Learning: false, DirectRouting: false, MacPrefix: "0E-2A" },
        { Datapath: "auto", Port: 0 },
        { datapath: "userspace" },
        { Datapath: "Userspace" },
      ]
    ) check(options);
    const [tunnel] = userspaceVxlanBackend.tunnels(config({ vNi: 5, port: 99 }), LINK, MACS);
    assert.equal(tunnel!.port, 99);
    assert.equal(tunnel!.device, "selvage.5");
  });

  const REFUSED: [Record<string, unknown>, string, RegExp][] = [
    [{ VNI: 0 }, "invalid_argument", /Backend\.VNI 0 is not a VXLAN network identifier/],
    [{ VNI: 2 ** 24 }, "invalid_argument", /Backend\.VNI/],
    [{ VNI: "1" }, "invalid_argument", /Backend\.VNI "1"/],
    [{ Port: -1 }, "invalid_argument", /Backend\.Port -1 is not a port/],
    [{ MTU: -1 }, "invalid_argument", /Backend\.MTU -1 is not an MTU/],
    [{ MTU: 100 }, "invalid_argument", /Backend\.MTU 100 leaves no room for IPv4/],
    [{ GBP: true }, "unsupported", /Backend\.GBP is not for the userspace datapath/],
    [{ learning: true }, "unsupported", /Backend\.Learning is not/],
    [{ DirectRouting: true }, "unsupported", /Backend\.DirectRouting is not/],
    [{ DirectRouting: 1 }, "invalid_argument", /DirectRouting 1 is neither true nor false/],
    [{ Generation: 4 }, "invalid_argument", /Generation 4 is not a generation/],
    [{ Generation: 1 }, "unsupported", /Backend\.Generation is not/],
    [{ Datapath: "magic" }, "invalid_argument", /Datapath "magic" is unknown/],
  ];
  for (const [options, code, message] of REFUSED) {
    test(`refused, with what to do: ${JSON.stringify(options)}`, () => {
      assert.throws(() => check(options), (error) => {
        assert.ok(error instanceof SelvageError);
        assert.equal(error.code, code);
        assert.match(error.message, message);
        assert.ok(error.hint);
        return true;
      });
    });
  }

  test("an MTU that no interface can have is refused without one", () => {
    for (const backend of [userspaceVxlanBackend, vxlanBackend]) {
      assert.throws(() => backend.check(config({ MTU: 10 }), null), /Backend\.MTU 10 leaves/);
      backend.check(config({ MTU: 118 }), null);
      assert.throws(() => backend.check(config({ MTU: 1349 }, DUAL), null), /IPv6/);
      backend.check(config({ MTU: 1350 }, DUAL), null);
    }
    const isHinted = (error: unknown) =>
      error instanceof SelvageError &&
      /leave MTU out for the interface's/.test(error.hint);
    assert.throws(() => check({ MTU: -1 }), isHinted);
  });

  test("an option that vxlan does not have is told, and passed over", () => {
    const typed = config({ vni: 2, Learnin: true, MacPrefix: "0E-2A" });
    userspaceVxlanBackend.check(typed, LINK);
    const [warning, ...others] = configWarnings(typed);
    assert.match(warning!, /Backend\.Learnin is ignored: vxlan has no such .*Learning/);
    assert.deepEqual(others, []);
  });

  test("a key that means nothing is told, and passed over", () => {
    const typed = parseNetworkConfig('{"Network":"10.5.0.0/16","SubnetLength":26}', "test");
    const [warning, ...others] = configWarnings(typed);
    assert.match(warning!, /SubnetLength is ignored: there is no such key/);
    assert.deepEqual(others, []);
    const keys = Array.from({ length: 99 }, (_, i) => `"K${i}":0`);
    const foreign = parseNetworkConfig(`{"Network":"10.5.0.0/16",${keys}}`, "test");
    assert.equal(configWarnings(foreign).length, 20);
  });

  test("an interface without what the families need is refused", () => {
    const own = LINK.addresses.slice(0, 1);
    const only4 = { ...LINK, addresses: own, publicAddresses: own };
    const checkDual = (link: OuterLink) => userspaceVxlanBackend.check(config({}, DUAL), link);
    checkDual(LINK);
    userspaceVxlanBackend.check(config(), only4);
    assert.throws(() => checkDual(only4), /eth0 has no IPv6 address/);
    checkDual({ ...LINK, mtu_bytes: 1350 });
    // Linux takes IPv6 from a device of less than 1280 bytes.
    assert.throws(() => checkDual({ ...LINK, mtu_bytes: 1349 }), /1349 leaves no room for IPv6/);
  });
});

describe("peers", () => {
  test("each is forwarded to its VTEP, in the families that it has", () => {
    const { forwarding, skipped } = userspaceVxlanBackend.plan(dual([BOTH, V4]));
    assert.deepEqual(plain(forwarding), [
      {
        key: "10.210.7.0-24",
        subnet: "10.210.7.0/24",
        address: "192.0.2.7",
        port: 8472,
        vtepMac: "02:00:00:00:00:07",
      },
      {
        key: "10.210.8.0-24&fc00:0:0:8::-64",
        subnet: "10.210.8.0/24",
        address: "192.0.2.8",
        port: 8472,
        vtepMac: "02:00:00:00:00:08",
      },
      {
        key: "10.210.8.0-24&fc00:0:0:8::-64",
        subnet: "fc00:0:0:8::/64",
        address: "2001:db8::8",
        port: 8472,
        vtepMac: "02:00:00:00:00:68",
      },
    ]);
    assert.deepEqual(skipped, [
      {
        key: "10.210.7.0-24",
        reason: "it has no IPv6 subnet or address; its other family is served",
      },
    ]);
  });

  test("one whose data is of one family alone is served in that", () => {
    const half = { ...BOTH, backendData: { 6: BOTH.backendData[6] } };
    const { forwarding, skipped } = userspaceVxlanBackend.plan(dual([half]));
    assert.deepEqual(forwarding.map(({ subnet }) => `${subnet}`), ["fc00:0:0:8::/64"]);
    assert.deepEqual(skipped.map(({ reason }) => reason), [
      "it publishes no VtepMAC in its BackendData; its other family is served",
    ]);
  });

  test("a reservation whose host has not come yet is named once, and as what it is", () => {
    const reserved = { ...BOTH, backendData: {}, expiry_ms: null };
    const { forwarding, skipped } = userspaceVxlanBackend.plan(dual([reserved]));
    assert.deepEqual(forwarding, []);
    const reason = "it is reserved, and its host has not come yet";
    assert.deepEqual(skipped, [{ key: "10.210.8.0-24&fc00:0:0:8::-64", reason }]);
  });

  test("a lease of flannel's is read, also one of before it wrote the VNI", () => {
    for (const VNI of ['"VNI":1,', ""]) {
      const text = `{"PublicIP":"192.0.2.9","BackendType":"vxlan",` +
        `"BackendData":{${VNI}"VtepMAC":"AA:f3:68:3c:a3:48"}}`;
      const subnets = parseLeaseKey("10.210.9.0-24");
      const peer = { subnets, ...parseLeaseValue(text, "test"), expiry_ms: null };
      assert.equal(
        `${userspaceVxlanBackend.plan(input([peer])).forwarding[0]!.vtepMac}`,
        "aa:f3:68:3c:a3:48",
      );
    }
  });

  const bad = (data: unknown, address = "192.0.2.9") =>
    lease("10.210.9.0-24", [address], { 4: data });
  const BAD: [Lease, RegExp][] = [
    [{ ...bad({}), backendType: "udp" }, /backend is udp, ours is vxlan/],
    [{ ...bad(undefined), expiry_ms: 1 }, /no VtepMAC in its BackendData/],
    [bad(null), /no VtepMAC/],
    [bad("02:00:00:00:00:09"), /no VtepMAC/],
    [bad({ VNI: 1, VtepMAC: 9 }), /no VtepMAC/],
    [bad({ VNI: 1, VtepMAC: "02:00" }), /VtepMAC "02:00" in its BackendData is not a VTEP's/],
    [bad({ VNI: 1, VtepMAC: "ff:ff:ff:ff:ff:ff" }), /is not a VTEP's/],
    [bad({ VNI: 1, VtepMAC: "01:00:5e:00:00:01" }), /is not a VTEP's/],
    [bad({ VNI: 1, VtepMAC: "00:00:00:00:00:00" }), /is not a VTEP's/],
    [bad(vtep("09", 2)), /its VNI is 2, ours is 1/],
    [bad(vtep("04")), /our VtepMAC 02:00:00:00:00:04; .*remove vtep\.json/],
    [
      bad(vtep("07")),
      /VtepMAC 02:00:00:00:00:07 of 10\.210\.7\.0-24, which is served .* remove vtep\.json/,
    ],
    [bad(vtep("09"), "192.0.2.1"), /our public address/],
    [bad(vtep("09"), "224.0.0.1"), /not a host's/],
    [bad(vtep("09"), "10.210.9.9"), /lies in the network/],
    [lease("10.211.9.0-24", ["192.0.2.9"], { 4: vtep("09") }), /outside the network/],
    [lease("10.210.5.128-25", ["192.0.2.9"], { 4: vtep("09") }), /overlaps ours/],
  ];
  for (const [peer, reason] of BAD) {
    test(`left out by name, all others served: ${reason.source}`, () => {
      const { forwarding, skipped } = userspaceVxlanBackend.plan(input([peer, V4]));
      assert.deepEqual(forwarding.map(({ key }) => key), ["10.210.7.0-24"]);
      assert.equal(skipped.length, 1);
      assert.notEqual(skipped[0]!.key, "10.210.7.0-24");
      assert.match(skipped[0]!.reason, reason);
    });
  }

  test("an IPv6 address that is no host's everywhere is refused", () => {
    const peer = { ...BOTH, publicAddresses: [IpAddress.parse("fe80::8")] };
    const reasons = userspaceVxlanBackend.plan(dual([peer])).skipped.map(({ reason }) => reason);
    const reason = "its public address fe80::8 is not a host's: it is a link-local address";
    assert.ok(reasons.includes(reason), reasons.join());
  });

  test("one MAC in two families is no conflict; a twin is served alone", () => {
    const same = { ...BOTH, backendData: { 4: vtep("08"), 6: vtep("08") } };
    assert.equal(userspaceVxlanBackend.plan(dual([same])).forwarding.length, 2);
    const twin = bad(vtep("07"));
    assert.deepEqual(userspaceVxlanBackend.plan(input([twin])).forwarding.map(({ key }) => key), [
      "10.210.9.0-24",
    ]);
  });

  test("one host may have two leases, such as a reservation that fits no more", () => {
    const [one, other] = ["10.210.8.0-24", "10.210.9.0-24"].map((key) =>
      lease(key, ["192.0.2.9"], { 4: vtep("09") })
    );
    const plan = userspaceVxlanBackend.plan(input([one!, other!]));
    assert.deepEqual(plan.forwarding.slice(-2).map(({ key }) => key), [
      "10.210.8.0-24",
      "10.210.9.0-24",
    ]);
    assert.deepEqual(plan.skipped, []);
    const { kernel } = vxlanBackend.plan(input([one!, other!]));
    assert.equal(kernel.fdb.filter(({ address }) => `${address}` === "192.0.2.9").length, 1);
    assert.equal(kernel.routes.length, 2);
  });
});
