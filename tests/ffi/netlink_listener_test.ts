/** What the kernel tells of its own accord, in a fresh namespace, in both runtimes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NETLINK_ROUTE, NetlinkListener } from "../../ffi/netlink_listener.ts";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import { decodeLink, RTM_NEWLINK } from "../../src/netlink/link.ts";
import { type NetlinkMessage, parseMessages } from "../../src/netlink/message.ts";
import { RTNLGRP_IPV4_ROUTE, RTNLGRP_LINK } from "../../src/netlink/notification.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";
import { createBridge, getLink, setLink } from "../../src/netlink/rtnetlink.ts";

/** Far more notifications than a listener has room for. */
const TOO_MANY = 30_000;

/** Runs `body` with a listener to a group, and a connection, of one fresh namespace. */
async function withListener(
  group: number,
  body: (listener: NetlinkListener, connection: NetlinkConnection) => Promise<void>,
): Promise<void> {
  const netns = createTestNetns();
  const [listener, connection] = withNetns(netns, () => [
    new NetlinkListener(NETLINK_ROUTE, [group]),
    new NetlinkConnection(new NetlinkRouteSocket()),
  ]);
  try {
    await body(listener, connection);
  } finally {
    listener.close();
    connection.close();
    closeNetns(netns);
  }
}

/** More routes than anybody can be told of while nobody reads. */
function flood(connection: NetlinkConnection): void {
  const lo = getLink(connection, "lo")!;
  setLink(connection, lo, { isUp: true });
  const requests = Array.from({ length: TOO_MANY }, (_, i) =>
    addRouteRequest({
      destination: IpPrefix.of(IpAddress.of(4, 0x0a000000n + BigInt(i)), 32),
      linkIndex: lo.index,
      linkName: "lo",
      gateway: null,
      protocol: 83,
    }, false));
  const failed = connection.batch(requests).filter(({ error }) => error !== null);
  assert.deepEqual(failed, []);
}

describe("a netlink listener", () => {
  test("is told what happens, and ends when it is aborted", async () => {
    await withListener(RTNLGRP_LINK, async (listener, connection) => {
      const ending = new AbortController();
      const messages: NetlinkMessage[] = [];
      createBridge(connection, { name: "before0" });
      let isMade = false;
      for await (const chunk of listener.chunks(ending.signal)) {
        messages.push(...parseMessages(chunk));
        const names = messages.filter(({ type }) => type === RTM_NEWLINK)
          .map(({ payload }) => decodeLink(payload).name);
        // One that happens while it waits is told just so.
        if (!isMade && names.includes("before0")) {
          isMade = true;
          setTimeout(() => createBridge(connection, { name: "after0" }), 5);
        }
        if (names.includes("after0")) ending.abort();
      }
      assert.ok(isMade && ending.signal.aborted);
    });
  });

  test("ends also while nothing happens", async () => {
    await withListener(RTNLGRP_LINK, async (listener) => {
      const ending = new AbortController();
      setTimeout(() => ending.abort(), 10);
      for await (const _chunk of listener.chunks(ending.signal)) assert.fail("nothing happened");
    });
  });

  test("says so when the kernel had to drop some", async () => {
    await withListener(RTNLGRP_IPV4_ROUTE, async (listener, connection) => {
      flood(connection);
      await assert.rejects(async () => {
        for await (const chunk of listener.chunks(new AbortController().signal)) {
          parseMessages(chunk);
        }
      }, { code: "ENOBUFS" });
    });
  });
});
