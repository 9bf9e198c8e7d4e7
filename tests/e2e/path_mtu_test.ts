/**
 * A path that carries less than the hosts' own links: host 1 reaches host 2 by way of host 3, whose
 * route on is narrower, and back directly.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Container } from "../../src/demo/container.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const OUTER_MTU = 1300;
/** Less the outer IPv4 and UDP headers. */
const INNER_MTU = OUTER_MTU - 28;
const TRANSFER_BYTES = 4 * 2 ** 20;

function ip(lab: Lab, host: number, words: string): void {
  const { status, stderr } = lab.exec(lab.network(host).host, "ip", ...words.split(" "));
  assert.equal(status, 0, `ip ${words}: ${stderr}`);
}

async function startWithNarrowPath(lab: Lab): Promise<void> {
  await lab.startRegistry();
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
  const [, far, relay] = [1, 2, 3].map((host) => lab.network(host).outerAddress);
  // A redirect would have host 1 go around the relay.
  const quiet = "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done";
  assert.equal(lab.exec(lab.network(3).host, "sh", "-c", quiet).status, 0);
  ip(lab, 3, `route add ${far}/32 dev eth0 mtu lock ${OUTER_MTU}`);
  ip(lab, 1, `route add ${far}/32 via ${relay}`);
}

function ping(lab: Lab, ...args: string[]) {
  const to = String(lab.containers[1]);
  return lab.exec(lab.network(1).container, "ping", "-n", "-W", "1", ...args, to).stdout;
}

async function pathMtu(lab: Lab): Promise<number | null> {
  return (await lab.host(1).status())!.peers[0]!.pathMtu_bytes;
}

test("a narrow path is found, shown and told to who sends too much", () =>
  withLab(3, async (lab) => {
    await startWithNarrowPath(lab);
    assert.match(ping(lab, "-c", "2", "-i", "0.05", "-s", "1000", "-M", "do"), /2 received/);
    assert.equal(await pathMtu(lab), null);
    // The first is lost on the way and tells the kernel; the next are refused here.
    const refused = ping(lab, "-c", "4", "-i", "0.05", "-s", "1400", "-M", "do");
    assert.match(refused, new RegExp(`(Frag needed and DF set|mtu) ?\\(?.*${INNER_MTU}`));
    assert.equal(await pathMtu(lab), INNER_MTU);
    const { stdout } = lab.run(1, ["status"]);
    assert.match(stdout, new RegExp(`PATH MTU$`, "m"));
    assert.match(stdout, new RegExp(` ${INNER_MTU}$`, "m"));
    const plane = (await lab.host(1).status())!.dataPlane!;
    assert.ok(plane.drops["egress_too_big"]! > 0);
    // What may be cut goes through all the same.
    const cut = ping(lab, "-c", "3", "-i", "0.05", "-s", "1400", "-M", "dont");
    assert.match(cut, /3 received/);
  }));

test("TCP finds its size on a narrow path, and all arrives", () =>
  withLab(3, async (lab) => {
    await startWithNarrowPath(lab);
    const containers = await Promise.all([1, 2].map((host) =>
      new Container(EXECUTABLE, lab.network(host), lab.containers[host - 1]!).ready()
    ));
    const [one, two] = containers as [Container, Container];
    try {
      for (const [from, to] of [[one, two], [two, one]] as const) {
        const { sentSha256, receivedSha256 } = await from.transfer(to, TRANSFER_BYTES);
        assert.equal(receivedSha256, sentSha256);
      }
    } finally {
      await Promise.all(containers.map((container) =>
        container.stop()
      ));
    }
    assert.equal(await pathMtu(lab), INNER_MTU);
    assert.equal((await lab.host(1).status())!.dataPlane!.drops["egress_send_failed"], 0);
  }));
