import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isFirewallNews, takeNotifications } from "../../src/agent/notifications.ts";
import type { Interest } from "../../src/kernel/relevance.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { addAddressRequest, RTM_NEWADDR } from "../../src/netlink/address.ts";
import { NDA_DST, NUD_INCOMPLETE, RTM_GETNEIGH } from "../../src/netlink/neighbour.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { AF_INET } from "../../src/netlink/layout.ts";
import type { NetlinkMessage } from "../../src/netlink/message.ts";
import {
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWTABLE,
  startPayload,
} from "../../src/netlink/nftables/layout.ts";

const [OUTER, OURS, OTHER] = [2, 9, 30] as const;
const INTEREST: Interest = {
  linkNames: new Set(["selvage.1"]),
  linkIndexes: new Set([OURS]),
  outerLink: { name: "eth0", index: OUTER },
  destinations: new Set(),
  misses: new Map([[OURS, {
    linkName: "selvage.1",
    isFdbOnMiss: false,
    peers: [{
      subnet: IpPrefix.parse("10.5.1.0/24"),
      vtepMac: MacAddress.parse("02:00:00:00:00:01"),
      address: IpAddress.parse("192.0.2.1"),
    }],
  }]]),
  ownPortId: 4711,
};

const messageOf = (type: number, payload: Uint8Array, portId = 0): NetlinkMessage => ({
  type,
  flags: 0,
  sequence: 0,
  portId,
  payload,
});

function addressOf(linkIndex: number): NetlinkMessage {
  const entry = { linkIndex, linkName: "", address: IpAddress.parse("192.0.2.7") };
  const { payload } = addAddressRequest({ ...entry, prefixLength: 24 }, false);
  return messageOf(RTM_NEWADDR, payload);
}

function missOf(address: string): NetlinkMessage {
  const writer = new PayloadWriter().u8(AF_INET).u8(0).u16(0).u32(OURS).u16(NUD_INCOMPLETE).u16(0);
  return messageOf(
    RTM_GETNEIGH,
    writer.attributeAddress(NDA_DST, IpAddress.parse(address)).finish(),
  );
}

/** What is done about these, in its order. */
function taken(messages: readonly NetlinkMessage[], hasPath = true): string[] {
  const done: string[] = [];
  const path = {
    interest: INTEREST,
    answer: (misses: readonly { address: IpAddress | null }[]) =>
      void done.push(`answer ${misses.map(({ address }) => address)}`),
    check: () => void done.push("tables"),
  };
  takeNotifications(messages, {
    path: () => hasPath ? path : null,
    outerLink: { check: () => void done.push("outer link") },
  });
  return done;
}

describe("notifications", () => {
  test("go to whom they concern, all of a kind together", () => {
    assert.deepEqual(taken([addressOf(OTHER)]), []);
    assert.deepEqual(taken([addressOf(OURS), addressOf(OURS)]), ["tables"]);
    assert.deepEqual(taken([addressOf(OUTER), addressOf(OURS)]), ["tables", "outer link"]);
    assert.deepEqual(taken([missOf("10.5.1.7"), addressOf(OURS), missOf("10.5.1.8")]), [
      "answer 10.5.1.7,10.5.1.8",
      "tables",
    ]);
  });

  test("one that is cut off may mean anything; the others are taken all the same", () => {
    const cut = messageOf(RTM_NEWADDR, addressOf(OTHER).payload.subarray(0, 10));
    assert.deepEqual(taken([missOf("10.5.1.7"), cut]), [
      "answer 10.5.1.7",
      "tables",
      "outer link",
    ]);
  });

  test("without a path only the outer link is looked at", () => {
    assert.deepEqual(taken([addressOf(OTHER)], false), ["outer link"]);
  });

  test("of the firewall what others did to our tables is news", () => {
    const table = (name: string, portId: number) =>
      messageOf(NFT_MSG_NEWTABLE, startPayload(4).attributeText(1, name).finish(), portId);
    assert.equal(isFirewallNews(table("selvage", 99), 4711), true);
    assert.equal(isFirewallNews(table("selvage", 4711), 4711), false);
    assert.equal(isFirewallNews(table("selvage", 0), 0), true);
    assert.equal(isFirewallNews(table("filter", 99), 4711), false);
    const end = messageOf(NFT_MSG_NEWGEN, startPayload(null).finish(), 99);
    assert.equal(isFirewallNews(end, 4711), false);
  });
});
