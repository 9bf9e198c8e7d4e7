/** Following the kernel in a fresh namespace. */
import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NETLINK_ROUTE } from "../../ffi/netlink_listener.ts";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { followKernel } from "../../src/agent/kernel_watch.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import { decodeLink, RTM_NEWLINK } from "../../src/netlink/link.ts";
import { RTNLGRP_IPV4_ROUTE, RTNLGRP_LINK } from "../../src/netlink/notification.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";
import { createBridge, getLink, setLink } from "../../src/netlink/rtnetlink.ts";

/** Of `linux/netlink.h`'s 32 nobody has the last. */
const LACKING_PROTOCOL = 31;
/** Far more than a listener has room for. */
const TOO_MANY = 30_000;

/** What was seen so far; resolves waits for it. */
class Seen {
  readonly names: string[] = [];
  gapCount = 0;
  #wake: () => void = () => {};

  tell(change: () => void): void {
    change();
    this.#wake();
  }

  async until(condition: (self: this) => boolean): Promise<void> {
    while (!condition(this)) await new Promise<void>((resolve) => this.#wake = resolve);
  }
}

/** Follows links and routes of a namespace while `act` runs, then ends it. */
async function following(
  act: (seen: Seen, connection: NetlinkConnection) => Promise<void>,
  onGap: (seen: Seen) => void = () => {},
): Promise<void> {
  const netns = createTestNetns();
  const connection = withNetns(netns, () => new NetlinkConnection(new NetlinkRouteSocket()));
  const [seen, ending] = [new Seen(), new AbortController()];
  try {
    // It opens its first socket before it waits for anything; later ones are the test's own
    // namespace's, of which it is told nothing that matters here.
    const followed = withNetns(netns, () =>
      followKernel({
        protocol: NETLINK_ROUTE,
        groups: [RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE],
        take: (messages) =>
          seen.tell(() => {
            const links = messages.filter(({ type }) => type === RTM_NEWLINK);
            seen.names.push(...links.map(({ payload }) => decodeLink(payload).name));
          }),
        onGap: () =>
          seen.tell(() => {
            seen.gapCount++;
            onGap(seen);
          }),
      }, ending.signal));
    try {
      await act(seen, connection);
    } finally {
      ending.abort();
      await followed;
    }
  } finally {
    connection.close();
    closeNetns(netns);
  }
}

describe("following the kernel", () => {
  test("begins with a look at everything, then takes what is told, and ends", async () => {
    await following(async (seen, connection) => {
      assert.equal(seen.gapCount, 1);
      createBridge(connection, { name: "br0" });
      await seen.until(({ names }) => names.includes("br0"));
      assert.equal(seen.gapCount, 1);
    });
  });

  test("when the kernel had to drop some, everything is looked at again", async () => {
    await following(async (seen, connection) => {
      const lo = getLink(connection, "lo")!;
      setLink(connection, lo, { isUp: true });
      connection.batch(Array.from({ length: TOO_MANY }, (_, i) =>
        addRouteRequest({
          destination: IpPrefix.of(IpAddress.of(4, 0x0a000000n + BigInt(i)), 32),
          linkIndex: lo.index,
          linkName: "lo",
          gateway: null,
          protocol: 83,
        }, false)));
      await seen.until(({ gapCount }) => gapCount === 2);
    });
  });

  test("who loses some again and again never stops listening for long", async () => {
    const starts: number[] = [];
    await following(
      (seen) => seen.until(({ gapCount }) => gapCount === 8),
      ({ gapCount }) => {
        starts.push(performance.now());
        if (gapCount < 8) throw Object.assign(new Error("lost"), { code: "ENOBUFS" });
      },
    );
    const pauses_ms = starts.slice(1).map((start_ms, i) => start_ms - starts[i]!);
    assert.ok(Math.max(...pauses_ms) < 500, `${pauses_ms}`);
  });

  test("what goes wrong in taking it does not end it", async () => {
    await following(
      (seen) => seen.until(({ gapCount }) => gapCount === 3),
      ({ gapCount }) => {
        if (gapCount < 3) throw new Error("the tables cannot be read");
      },
    );
  });

  test("of a protocol that the kernel lacks nothing is said: what needs it says so", async () => {
    const lines: string[] = [];
    const sink = ({ message }: LogRecord) => lines.push(message.map(String).join(""));
    await configure({
      sinks: { sink },
      loggers: [{ category: ["selvage"], sinks: ["sink"], lowestLevel: "info" }],
      reset: true,
    });
    const ending = new AbortController();
    try {
      const options = { groups: [1], take: () => {}, onGap: () => {} };
      const lacking = followKernel({ ...options, protocol: LACKING_PROTOCOL }, ending.signal);
      ending.abort();
      await lacking;
      assert.deepEqual(lines, []);
      const failing = new AbortController();
      await followKernel({
        ...options,
        protocol: NETLINK_ROUTE,
        onGap: () => {
          failing.abort();
          throw new Error("broken");
        },
      }, failing.signal);
      assert.deepEqual(lines, ["cannot follow the kernel: broken"]);
    } finally {
      await reset();
    }
  });
});
