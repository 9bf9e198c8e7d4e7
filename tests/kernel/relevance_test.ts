import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Interest, judge } from "../../src/kernel/relevance.ts";
import type { MissTable } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { addAddressRequest, RTM_DELADDR, RTM_NEWADDR } from "../../src/netlink/address.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import { RTM_DELLINK, RTM_NEWLINK } from "../../src/netlink/link.ts";
import type { NetlinkMessage } from "../../src/netlink/message.ts";
import {
  NUD_FAILED,
  NUD_INCOMPLETE,
  NUD_PERMANENT,
  NUD_REACHABLE,
  NUD_STALE,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from "../../src/netlink/neighbour.ts";
import { addFdbEntryRequest, addNeighbourRequest } from "../../src/netlink/neighbour_request.ts";
import { RTM_DELNEXTHOP, RTM_NEWNEXTHOP } from "../../src/netlink/nexthop.ts";
import { RTM_DELNETCONF, RTM_NEWNETCONF } from "../../src/netlink/notification.ts";
import { RTM_DELROUTE, RTM_F_CLONED, RTM_NEWROUTE } from "../../src/netlink/route.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";

const [OUTER, OURS, V2, V1, OTHER] = [2, 7, 8, 9, 30] as const;
const OWN_PORT = 4711;
const mac = (last: string) => MacAddress.parse(`02:00:00:00:00:${last}`);
const ip = (text: string) => IpAddress.parse(text);

const missTable = (linkName: string, isFdbOnMiss: boolean): MissTable => ({
  linkName,
  isFdbOnMiss,
  peers: [{ subnet: IpPrefix.parse("10.5.1.0/24"), vtepMac: mac("01"), address: ip("192.0.2.1") }],
});

const INTEREST: Interest = {
  linkNames: new Set(["selvage.1", "selvage.2", "selvage.3"]),
  linkIndexes: new Set([OURS, V2, V1]),
  outerLink: { name: "eth0", index: OUTER },
  destinations: new Set(["10.5.1.0/24"]),
  misses: new Map([[V2, missTable("selvage.2", false)], [V1, missTable("selvage.3", true)]]),
  ownPortId: OWN_PORT,
};

function judged(type: number, payload: Uint8Array, portId = 0) {
  const message: NetlinkMessage = { type, flags: 0, sequence: 0, portId, payload };
  return judge(message, INTEREST);
}

const link = (index: number, name: string) =>
  new PayloadWriter().u32(0).u32(index).u32(1).u32(0).attributeText(3, name).finish();
const address = (linkIndex: number) => {
  const entry = { linkIndex, linkName: "", address: ip("192.0.2.7"), prefixLength: 24 };
  return addAddressRequest(entry, false).payload;
};
const route = (destination: string, linkIndex: number, protocol = 4) => {
  const to = { destination: IpPrefix.parse(destination), gateway: null };
  return addRouteRequest({ ...to, linkIndex, linkName: "", protocol }, false).payload;
};
const neighbour = (linkIndex: number, inner: string, last: string, state = NUD_REACHABLE) => {
  const entry = { linkIndex, linkName: "", address: ip(inner), macAddress: mac(last), state };
  return addNeighbourRequest(entry, false).payload;
};
const fdb = (linkIndex: number, last: string, at: string, state = NUD_REACHABLE) => {
  const entry = { linkIndex, linkName: "", address: ip(at), macAddress: mac(last), state };
  return addFdbEntryRequest(entry, false).payload;
};

describe("what a notification means", () => {
  for (const type of [RTM_NEWLINK, RTM_DELLINK]) {
    test(`a link: ours by name or number, the outer one, or nobody's (${type})`, () => {
      assert.deepEqual(judged(type, link(OURS, "selvage.1")), ["tables"]);
      assert.deepEqual(judged(type, link(OURS, "renamed0")), ["tables"]);
      assert.deepEqual(judged(type, link(OTHER, "selvage.1")), ["tables"]);
      assert.deepEqual(judged(type, link(OUTER, "renamed0")), ["outer_link", "tables"]);
      // Made again with another number.
      assert.deepEqual(judged(type, link(OTHER, "eth0")), ["outer_link", "tables"]);
      assert.deepEqual(judged(type, link(OTHER, "docker0")), []);
    });
  }

  for (const type of [RTM_NEWADDR, RTM_DELADDR]) {
    test(`an address: of our link, of the outer one, or of another (${type})`, () => {
      assert.deepEqual(judged(type, address(OURS)), ["tables"]);
      assert.deepEqual(judged(type, address(OUTER)), ["outer_link", "tables"]);
      assert.deepEqual(judged(type, address(OTHER)), []);
      const outerLink = { ...INTEREST.outerLink, publicAddresses: [ip("192.0.2.7")] };
      const message = { type, flags: 0, sequence: 0, portId: 0, payload: address(OTHER) };
      assert.deepEqual(judge(message, { ...INTEREST, outerLink }), ["outer_link"]);
    });
  }

  for (const type of [RTM_NEWROUTE, RTM_DELROUTE]) {
    test(`a route: of ours, in our place, of the outer link, or another's (${type})`, () => {
      assert.deepEqual(judged(type, route("10.9.0.0/16", OTHER, 83)), ["tables"]);
      assert.deepEqual(judged(type, route("10.5.1.0/24", OTHER)), ["tables"]);
      assert.deepEqual(judged(type, route("10.9.0.0/16", OUTER)), ["outer_link"]);
      assert.deepEqual(judged(type, route("0.0.0.0/0", OTHER)), ["outer_link"]);
      assert.deepEqual(judged(type, route("10.9.0.0/16", OTHER)), []);
      const cloned = route("10.5.1.0/24", OTHER);
      cloned[9] = RTM_F_CLONED >> 8;
      assert.deepEqual(judged(type, cloned), []);
    });
  }

  test("a neighbour or an FDB entry of our device, whatever it says; not of others", () => {
    for (const type of [RTM_NEWNEIGH, RTM_DELNEIGH]) {
      for (const state of [NUD_PERMANENT, NUD_REACHABLE]) {
        assert.deepEqual(judged(type, neighbour(OURS, "10.5.1.0", "01", state)), ["tables"]);
        assert.deepEqual(judged(type, fdb(OURS, "01", "192.0.2.1", state)), ["tables"]);
        for (const linkIndex of [OUTER, OTHER]) {
          assert.deepEqual(judged(type, neighbour(linkIndex, "10.5.1.0", "01", state)), []);
          assert.deepEqual(judged(type, fdb(linkIndex, "01", "192.0.2.1", state)), []);
        }
      }
    }
  });

  test("made on demand, a neighbour matters if it says what we would not", () => {
    for (const device of [V1, V2]) {
      const made = (inner: string, last: string, state?: number) =>
        judged(RTM_NEWNEIGH, neighbour(device, inner, last, state));
      assert.deepEqual(made("10.5.1.7", "01"), []);
      assert.deepEqual(made("10.5.1.7", "01", NUD_STALE), []);
      assert.deepEqual(made("10.5.1.7", "99"), ["tables"]);
      assert.deepEqual(made("10.5.9.9", "01"), ["tables"]);
      // While it is asked for, and when nobody said.
      assert.deepEqual(made("10.5.9.9", "99", NUD_INCOMPLETE), []);
      assert.deepEqual(made("10.5.9.9", "99", NUD_FAILED), []);
      assert.deepEqual(judged(RTM_DELNEIGH, neighbour(device, "10.5.1.7", "01")), []);
    }
  });

  test("so does an FDB entry, which with generation 2 is there from the start", () => {
    const made = (last: string, at: string, state?: number) =>
      judged(RTM_NEWNEIGH, fdb(V1, last, at, state));
    assert.deepEqual(made("01", "192.0.2.1"), []);
    assert.deepEqual(made("01", "192.0.2.99"), ["tables"]);
    assert.deepEqual(made("01", "192.0.2.1", NUD_PERMANENT), ["tables"]);
    // Learnt of somebody whom we do not know.
    assert.deepEqual(made("77", "192.0.2.77"), []);
    assert.deepEqual(judged(RTM_DELNEIGH, fdb(V1, "01", "192.0.2.1")), []);
    const state = NUD_PERMANENT;
    for (const type of [RTM_NEWNEIGH, RTM_DELNEIGH]) {
      assert.deepEqual(judged(type, fdb(V2, "01", "192.0.2.1", state)), ["tables"]);
    }
  });

  test("what the kernel asks for, of devices that answer", () => {
    const asked = new PayloadWriter().u32(2).u32(V1).u32(NUD_STALE);
    const station = asked.attributeMac(2, mac("01")).finish();
    assert.deepEqual(judged(RTM_GETNEIGH, station), [
      { linkIndex: V1, address: null, macAddress: mac("01") },
    ]);
    for (const device of [V1, V2]) {
      const inner = neighbour(device, "10.5.1.7", "99", NUD_INCOMPLETE);
      const [miss, ...rest] = judged(RTM_GETNEIGH, inner);
      const expected = { linkIndex: device, address: ip("10.5.1.7"), macAddress: null };
      assert.deepEqual([miss, rest], [expected, []]);
    }
    for (const device of [OURS, OUTER, OTHER]) {
      assert.deepEqual(judged(RTM_GETNEIGH, neighbour(device, "10.5.1.7", "01")), []);
    }
    assert.deepEqual(judged(RTM_GETNEIGH, fdb(V1, "01", "192.0.2.1")), []);
  });

  test("what we did ourselves is no news; what the kernel says and others did is", () => {
    const cases: [number, Uint8Array][] = [
      [RTM_NEWLINK, link(OURS, "selvage.1")],
      [RTM_NEWADDR, address(OURS)],
      [RTM_DELROUTE, route("10.5.1.0/24", OURS, 83)],
      [RTM_NEWNEIGH, neighbour(OURS, "10.5.1.0", "01")],
      [RTM_NEWNEXTHOP, new Uint8Array(8)],
      [RTM_NEWNETCONF, new Uint8Array(4)],
    ];
    for (const [type, payload] of cases) {
      assert.deepEqual(judged(type, payload, OWN_PORT), [], `${type}`);
      for (const portId of [0, OWN_PORT + 1]) {
        assert.deepEqual(judged(type, payload, portId), ["tables"], `${type}`);
      }
    }
    // A kernel that has not said which port is ours: 0 is its own.
    const message = { type: RTM_NEWLINK, flags: 0, sequence: 0, portId: 0 };
    const unknown = { ...INTEREST, ownPortId: 0 };
    const payload = link(OURS, "selvage.1");
    assert.deepEqual(judge({ ...message, payload }, unknown), ["tables"]);
  });

  test("nexthop objects and forwarding always, anything else never", () => {
    for (const type of [RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_NEWNETCONF, RTM_DELNETCONF]) {
      assert.deepEqual(judged(type, new Uint8Array(0)), ["tables"]);
    }
    for (const type of [2, 3, 36, 120]) assert.deepEqual(judged(type, new Uint8Array(0)), []);
  });

  test("what cannot be read is refused", () => {
    for (const type of [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_GETNEIGH]) {
      assert.throws(() => judged(type, new Uint8Array(3)), NetlinkDecodeError);
    }
  });
});
