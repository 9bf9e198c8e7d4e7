import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hasCode, SelvageError } from "../../src/errors.ts";
import {
  chooseOuterLink,
  isSameOuterLink,
  type OuterLink,
  outerLinkChanges,
  type OuterLinkChoice,
  reachesDirectly,
} from "../../src/kernel/outer_link.ts";
import { type Family, IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { Re2Pattern } from "../../src/net/re2.ts";
import { addAddressRequest } from "../../src/netlink/address.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";
import { FakeKernel } from "./fake_kernel.ts";

const NO_CHOICE: OuterLinkChoice = {
  interfaces: [],
  interfaceRegexes: [],
  canReach: null,
  publicAddresses: [],
};

const patterns = (...texts: string[]) => texts.map((text) => new Re2Pattern(text, "test"));

const NAMES = ["lo", "eth0", "eth1", "wlan0", "sit0", "selvage0"];

/** The payload of an RTM_NEWADDR with these flags. */
function address(name: string, text: string, flags = 0x80): Uint8Array {
  const [ip, length] = text.split("/");
  const linkIndex = NAMES.indexOf(name) + 1;
  const entry = { linkIndex, linkName: name, address: IpAddress.parse(ip!) };
  const { payload } = addAddressRequest({ ...entry, prefixLength: Number(length) }, false);
  payload[2] = flags;
  return payload;
}

function defaultRoute(name: string, metric: number): Uint8Array {
  return addRouteRequest({
    destination: IpPrefix.parse("0.0.0.0/0"),
    linkIndex: NAMES.indexOf(name) + 1,
    linkName: name,
    gateway: IpAddress.parse("10.0.0.254"),
    protocol: 3,
    metric,
  }, false).payload;
}

function host(): FakeKernel {
  const kernel = new FakeKernel(NAMES.map((name, i) => ({
    index: i + 1,
    name,
    mtu_bytes: 1500 - i,
    isUp: true,
  })));
  kernel.addresses.push(
    address("lo", "127.0.0.1/8"),
    address("eth0", "169.254.7.7/16"),
    address("eth0", "10.0.0.9/24", 0x81),
    address("eth0", "10.0.0.1/24"),
    address("eth0", "fe80::1/64"),
    address("eth0", "fd00::1/64"),
    address("eth1", "192.0.2.1/24"),
    address("wlan0", "169.254.9.9/16"),
    address("lo", "::1/128"),
  );
  return kernel;
}

function choose(choice: Partial<OuterLinkChoice>, kernel = host()): string {
  const link = chooseOuterLink(kernel.connection, { ...NO_CHOICE, ...choice });
  assert.equal(link.mtu_bytes, 1501 - link.index);
  return `${link.name} ${link.addresses.join(" ")}`;
}

function failure(run: () => unknown): SelvageError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof SelvageError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "nothing was thrown" });
}

describe("the outer link", () => {
  test("by default is the default route's with the lowest metric", () => {
    const kernel = host();
    kernel.routes.push(defaultRoute("eth0", 200), defaultRoute("eth1", 100));
    assert.equal(choose({}, kernel), "eth1 192.0.2.1");
  });

  test("has its first global primary address of each family", () => {
    assert.equal(choose({ interfaces: ["eth0"] }), "eth0 10.0.0.1 fd00::1");
  });

  test("may have a link-local IPv4 address where there is no other, as in flannel", () => {
    assert.equal(choose({ interfaces: ["wlan0"] }), "wlan0 169.254.9.9");
  });

  test("is named by an address, which is then the one used", () => {
    assert.equal(choose({ interfaces: ["10.0.0.9"] }), "eth0 10.0.0.9 fd00::1");
    assert.equal(choose({ interfaces: ["fd00::1"] }), "eth0 10.0.0.1 fd00::1");
    assert.equal(choose({ interfaces: ["127.0.0.1"] }), "lo 127.0.0.1");
  });

  test("is the first that fits: names, then expressions, then what can be reached", () => {
    assert.equal(choose({ interfaces: ["eth7", "sit0", "eth1", "eth0"] }), "eth1 192.0.2.1");
    const interfaceRegexes = patterns("^nothing", "^eth");
    assert.equal(
      choose({ interfaces: ["eth7"], interfaceRegexes }),
      "eth0 10.0.0.1 fd00::1",
    );
  });

  test("by expression: addresses before names", () => {
    assert.equal(choose({ interfaceRegexes: patterns("^192") }), "eth1 192.0.2.1");
    assert.equal(choose({ interfaceRegexes: patterns(String.raw`\.9$`) }), "eth0 10.0.0.9 fd00::1");
    assert.equal(choose({ interfaceRegexes: patterns("an0|sit") }), "wlan0 169.254.9.9");
  });

  test("by what can be reached: with the source address that the kernel would use", () => {
    const kernel = host();
    kernel.lookUp = new PayloadWriter().u8(2).u8(32).u8(0).u8(0).u8(254).u8(0).u8(0).u8(1)
      .u32(0x200).attributeAddress(1, IpAddress.parse("10.9.9.9")).attributeU32(4, 2)
      .attributeAddress(7, IpAddress.parse("10.0.0.9")).finish();
    assert.equal(choose({ canReach: "10.9.9.9" }, kernel), "eth0 10.0.0.9 fd00::1");
    kernel.lookUp = null;
    const error = failure(() => choose({ canReach: "10.9.9.9" }, kernel));
    assert.match(error.message, /--iface-can-reach "10.9.9.9": there is no route to it/);
  });

  test("public addresses take the place of its own, family by family", () => {
    const publicAddresses = [IpAddress.parse("203.0.113.5")];
    const choice = { ...NO_CHOICE, interfaces: ["eth0"], publicAddresses };
    const link = chooseOuterLink(host().connection, choice);
    assert.deepEqual(link.publicAddresses.map(String), ["203.0.113.5", "fd00::1"]);
    assert.deepEqual(link.addresses.map(String), ["10.0.0.1", "fd00::1"]);
  });

  test("is found by a public address that an interface has; sockets are bound to it", () => {
    const kernel = host();
    kernel.routes.push(defaultRoute("eth1", 0));
    const withPublic = (...texts: string[]) => {
      const publicAddresses = texts.map((text) => IpAddress.parse(text));
      const link = chooseOuterLink(kernel.connection, { ...NO_CHOICE, publicAddresses });
      return `${link.name} ${link.addresses.join(" ")} public ${link.publicAddresses.join(" ")}`;
    };
    assert.equal(withPublic("10.0.0.1"), "eth0 10.0.0.1 fd00::1 public 10.0.0.1 fd00::1");
    // The second address of the interface.
    assert.equal(withPublic("10.0.0.9"), "eth0 10.0.0.9 fd00::1 public 10.0.0.9 fd00::1");
    assert.equal(withPublic("fd00::1"), "eth0 10.0.0.1 fd00::1 public 10.0.0.1 fd00::1");
    // A translation's: the default route decides.
    assert.equal(withPublic("203.0.113.5"), "eth1 192.0.2.1 public 203.0.113.5");
    assert.equal(
      withPublic("203.0.113.5", "fd00::1"),
      "eth0 10.0.0.1 fd00::1 public 203.0.113.5 fd00::1",
    );
    // Routed to the host, on its loopback interface.
    kernel.addresses.push(address("lo", "198.51.100.7/32"));
    assert.equal(withPublic("198.51.100.7"), "eth1 198.51.100.7 public 198.51.100.7");
  });

  test("named by a flag is bound at its public address, if the host has that", () => {
    const publicAddresses = [IpAddress.parse("10.0.0.9")];
    assert.equal(choose({ interfaces: ["eth0"], publicAddresses }), "eth0 10.0.0.9 fd00::1");
  });

  test("that does not exist is an error that lists those that do", () => {
    const error = failure(() => choose({ interfaces: ["eth7", "10.1.1.1"] }));
    assert.ok(hasCode(error, "not_found"));
    assert.match(error.message, /"eth7": there is no such interface; .*"10.1.1.1": no interface/);
    assert.match(error.hint, /lo \(127.0.0.1, ::1\), eth0 \(.*10.0.0.1.*\), .*sit0 \(no address\)/);
  });

  test("without a default route is an error that says what to do", () => {
    const error = failure(() => choose({}));
    assert.match(error.message, /no IPv4 default route .*eth1 \(192.0.2.1\)/);
    assert.match(error.hint, /--iface=NAME/);
    // No other host is behind a tunnel of our own.
    assert.doesNotMatch(error.message, /selvage0/);
  });

  test("must have an address of each family that is asked for", () => {
    const both = (name: string) => () =>
      chooseOuterLink(host().connection, { ...NO_CHOICE, interfaces: [name] }, [4, 6]);
    assert.equal(both("eth0")().name, "eth0");
    assert.match(failure(both("eth1")).message, /eth1 has no usable IPv6 address/);
    assert.match(
      failure(() => choose({ interfaces: ["sit0"] })).message,
      /sit0 has no usable IPv4/,
    );
    const kernel = host();
    kernel.routes.push(defaultRoute("sit0", 0));
    assert.match(failure(() => choose({}, kernel)).message, /sit0 has no usable IPv4/);
  });

  test("a flag's value that cannot be read is an error of its own", () => {
    for (
      const [choice, text] of [
        [{ interfaces: ["1.2.3.400", "eth0"] }, /--iface "1.2.3.400"/],
        [{ canReach: "example.org" }, /--iface-can-reach "example.org"/],
      ] as const
    ) {
      const error = failure(() => choose(choice));
      assert.equal(error.code, "invalid_argument");
      assert.match(error.message, text);
    }
  });
});

describe("the outer link in use", () => {
  const held = (name: string, ...addresses: string[]) => ({
    name,
    addresses: addresses.map((text) => IpAddress.parse(text)),
    isInUse: true,
  });
  const keep = (
    kernel: FakeKernel,
    before: ReturnType<typeof held>,
    choice: Partial<OuterLinkChoice> = {},
  ) => {
    const all = { ...NO_CHOICE, ...choice };
    const { name, addresses } = chooseOuterLink(kernel.connection, all, [4], before);
    return `${name} ${addresses.join(" ")}`;
  };

  test("is left neither for a better default route nor for another address", () => {
    const kernel = host();
    kernel.routes.push(defaultRoute("eth1", 0), defaultRoute("eth0", 100));
    assert.equal(keep(kernel, held("eth0", "10.0.0.9", "fd00::1")), "eth0 10.0.0.9 fd00::1");
    kernel.addresses.push(address("eth0", "fd00::0/64"));
    assert.equal(keep(kernel, held("eth0", "10.0.0.1", "fd00::1")), "eth0 10.0.0.1 fd00::1");
    kernel.routes = [];
    assert.equal(keep(kernel, held("eth0", "10.0.0.1")), "eth0 10.0.0.1 fd00::1");
  });

  test("is left for no other that flags would name first", () => {
    const before = held("eth1", "192.0.2.1");
    assert.equal(keep(host(), before, { interfaces: ["eth0", "eth1"] }), "eth1 192.0.2.1");
    assert.equal(keep(host(), before, { interfaceRegexes: patterns("eth") }), "eth1 192.0.2.1");
    const kernel = host();
    kernel.lookUp = null;
    assert.equal(keep(kernel, before, { canReach: "10.9.9.9" }), "eth1 192.0.2.1");
  });

  test("is left if it is down, or has lost its address", () => {
    const kernel = host();
    kernel.routes.push(defaultRoute("eth1", 0));
    assert.equal(keep(kernel, held("eth0", "10.0.0.7")), "eth1 192.0.2.1");
    // Of interfaces that would do it stays with its own.
    kernel.routes.push(defaultRoute("eth0", 100));
    assert.equal(keep(kernel, held("eth0", "10.0.0.7")), "eth0 10.0.0.1 fd00::1");
    const names = { interfaces: ["eth1", "eth0"] };
    assert.equal(keep(kernel, held("eth0", "10.0.0.7"), names), "eth0 10.0.0.1 fd00::1");
    const fitting = { interfaceRegexes: patterns("^eth") };
    assert.equal(keep(kernel, held("eth1", "192.0.2.7"), fitting), "eth1 192.0.2.1");
    kernel.links[1] = { ...kernel.links[1]!, isUp: false };
    assert.equal(keep(kernel, held("eth0", "10.0.0.1")), "eth1 192.0.2.1");
    // Where a flag allows no other, it is kept with its fault.
    assert.equal(
      keep(kernel, held("eth0", "10.0.0.9"), { interfaces: ["eth0"] }),
      "eth0 10.0.0.9 fd00::1",
    );
  });

  test("is left for the interface that gets the public address", () => {
    const kernel = host();
    kernel.routes.push(defaultRoute("eth0", 0));
    const publicAddresses = [IpAddress.parse("192.0.2.5")];
    const before = held("eth0", "10.0.0.1", "fd00::1");
    assert.equal(keep(kernel, before, { publicAddresses }), "eth0 10.0.0.1 fd00::1");
    kernel.addresses.push(address("eth1", "192.0.2.5/24"));
    assert.equal(keep(kernel, before, { publicAddresses }), "eth1 192.0.2.5");
  });

  test("that had the public address itself does not become a host behind a translation", () => {
    const kernel = host();
    kernel.routes.push(defaultRoute("eth0", 0));
    const publicAddresses = [IpAddress.parse("192.0.2.5")];
    const before = held("eth1", "192.0.2.5");
    const error = failure(() => keep(kernel, before, { publicAddresses }));
    assert.match(error.message, /no longer has its public address 192.0.2.5/);
    // A start goes on: the address may be a translation's now.
    const last = { ...before, isInUse: false };
    assert.equal(keep(kernel, last, { publicAddresses }), "eth0 10.0.0.1 fd00::1");
  });
});

describe("the ways out of the outer link", () => {
  const route = (
    destination: string,
    name: string,
    { gateway = null as string | null, protocol = 2, metric = undefined as number | undefined } =
      {},
  ) =>
    addRouteRequest({
      destination: IpPrefix.parse(destination),
      linkIndex: NAMES.indexOf(name) + 1,
      linkName: name,
      gateway: gateway === null ? null : IpAddress.parse(gateway),
      protocol,
      ...(metric === undefined ? {} : { metric }),
    }, false).payload;

  function withRoutes(...routes: Uint8Array[]) {
    const kernel = host();
    kernel.routes.push(...routes);
    return chooseOuterLink(kernel.connection, { ...NO_CHOICE, interfaces: ["eth0"] });
  }

  const CONNECTED = route("10.0.0.0/24", "eth0");
  const reach = (link: ReturnType<typeof withRoutes>, address: string) =>
    reachesDirectly(link, IpAddress.parse(address));

  test("are those straight out of it and those into its prefixes, the longest first", () => {
    const blackhole = route("10.0.0.64/26", "eth0");
    blackhole[7] = 6;
    const { ways } = withRoutes(
      CONNECTED,
      defaultRoute("eth0", 100),
      route("10.0.0.128/25", "eth1"),
      route("10.0.0.200/32", "eth0", { gateway: "10.0.0.254" }),
      blackhole,
      route("198.51.100.0/24", "eth0"),
      route("fd00::/64", "eth0"),
      // No hosts there, another's ways, ways that are ours, and ways elsewhere.
      route("224.0.0.0/4", "eth0"),
      route("fe80::/64", "eth0"),
      route("192.0.2.0/24", "eth1"),
      route("203.0.113.0/24", "eth0", { gateway: "10.0.0.254" }),
      route("10.0.0.0/25", "eth0", { protocol: 83 }),
    );
    assert.deepEqual(
      ways.map(({ destination, isDirect }) => `${destination} ${isDirect}`),
      [
        "fd00::/64 true",
        "10.0.0.200/32 false",
        "10.0.0.64/26 false",
        "10.0.0.128/25 false",
        "10.0.0.0/24 true",
        "198.51.100.0/24 true",
      ].sort((a, b) => Number(b.match(/\/(\d+)/)![1]) - Number(a.match(/\/(\d+)/)![1])),
    );
  });

  test("say who is reached without a gateway: the longest prefix does", () => {
    const link = withRoutes(
      CONNECTED,
      route("10.0.0.128/25", "eth0", { gateway: "10.0.0.254" }),
      route("10.0.0.200/32", "eth0"),
      route("fd00::/64", "eth0"),
      defaultRoute("eth0", 100),
    );
    const cases: [string, boolean][] = [
      ["10.0.0.5", true],
      ["10.0.0.127", true],
      ["10.0.0.129", false],
      ["10.0.0.200", true],
      ["10.0.1.1", false],
      ["198.51.100.1", false],
      ["fd00::77", true],
      ["fd00:1::1", false],
    ];
    for (const [address, isDirect] of cases) assert.equal(reach(link, address), isDirect, address);
    assert.equal(reach(withRoutes(), "10.0.0.5"), false);
  });

  test("of two with one prefix the lower metric counts", () => {
    const through = (metric: number) =>
      route("10.0.0.0/24", "eth0", { gateway: "10.0.0.254", metric });
    assert.equal(reach(withRoutes(CONNECTED, through(100)), "10.0.0.5"), true);
    const slow = route("10.0.0.0/24", "eth0", { metric: 200 });
    assert.equal(reach(withRoutes(slow, through(100)), "10.0.0.5"), false);
  });

  test("other ways make no other link; another MTU, number or address does", () => {
    const link = withRoutes(CONNECTED);
    const isSame = (change: Partial<OuterLink>, ...families: Family[]) =>
      isSameOuterLink(link, { ...link, ...change }, families);
    assert.ok(isSame({ ways: [] }, 4, 6));
    const other = [IpAddress.parse("10.0.0.7")];
    for (
      const change of [
        { name: "eth7" },
        { index: 77 },
        { mtu_bytes: 1400 },
        { addresses: other },
        { addresses: link.addresses.slice(0, 1) },
        { publicAddresses: other },
      ]
    ) assert.ok(!isSame(change, 4, 6), JSON.stringify(change));
    const withoutV6 = { addresses: link.addresses.slice(0, 1) };
    assert.deepEqual([isSame(withoutV6, 4), isSame(withoutV6, 6)], [true, false]);
  });
});

test("a link that is down or has no carrier is chosen all the same, and says so", () => {
  const faultWith = (state: Partial<FakeKernel["links"][number]>) => {
    const kernel = host();
    Object.assign(kernel.links.find(({ name }) => name === "eth1")!, state);
    const choice = { ...NO_CHOICE, interfaces: ["eth1"] };
    return chooseOuterLink(kernel.connection, choice).fault;
  };
  assert.equal(faultWith({}), undefined);
  assert.equal(faultWith({ isUp: false }), "interface eth1 is down");
  assert.equal(faultWith({ operState: 2 }), "interface eth1 has no carrier");
});

test("what has changed of a link is told, and nothing else", () => {
  const before = chooseOuterLink(host().connection, { ...NO_CHOICE, interfaces: ["eth0"] });
  assert.equal(outerLinkChanges(before, before, [4, 6]), "");
  const changed = { ...before, mtu_bytes: 1400 };
  assert.equal(outerLinkChanges(before, changed, [4]), `MTU 1400 instead of ${before.mtu_bytes}`);
  const addresses = [IpAddress.parse("10.0.0.44")];
  const moved = { ...before, index: 99, addresses, publicAddresses: addresses };
  assert.equal(
    outerLinkChanges(before, moved, [4]),
    "interface eth0 was made anew, address 10.0.0.44 instead of 10.0.0.1",
  );
});
