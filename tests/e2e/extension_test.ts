/** Backend `extension`: commands carry the packets, in real namespaces (see lab.ts). */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { attachV6, giveOuterV6 } from "./dual_stack.ts";
import { EXECUTABLE, type Lab, UNDER_DENO, withLab } from "./lab.ts";

/** host-gw by commands: what each was told goes to a file of its host's. */
const SCRIPT = `
set -e
cd "$(dirname "$0")"
me=$(ip -4 -o address show dev eth0 | tr -s ' ' | cut -d ' ' -f 4 | cut -d / -f 1)
read data
six="$IPV6NETWORK $IPV6SUBNET $PUBLIC_IPV6"
echo "$1 $NETWORK $SUBNET $PUBLIC_IP $six $data" | tr -s ' ' >> "$me.log"
if [ -e "refuse-$1" ]; then echo "no $1 today" >&2; exit 3; fi
case $1 in
  pre) echo "data of $me" ;;
  add)
    ip route add "$SUBNET" via "$PUBLIC_IP"
    [ -z "$IPV6SUBNET" ] || ip -6 route add "$IPV6SUBNET" via "$PUBLIC_IPV6" ;;
  remove)
    ip route del "$SUBNET" via "$PUBLIC_IP"
    [ -z "$IPV6SUBNET" ] || ip -6 route del "$IPV6SUBNET" via "$PUBLIC_IPV6" ;;
esac
`;

function config(lab: Lab) {
  const script = join(lab.directory, "extension.sh");
  writeFileSync(script, SCRIPT);
  lab.env.SELVAGE_ALLOW_EXTENSION = "true";
  const command = (what: string) => `sh '${script}' ${what}`;
  return {
    Network: "10.210.0.0/16",
    Backend: {
      Type: "extension",
      PreStartupCommand: command("pre"),
      PostStartupCommand: command("post"),
      ShutdownCommand: command("shutdown"),
      SubnetAddCommand: command("add"),
      SubnetRemoveCommand: command("remove"),
    },
  };
}

/** What the commands of a host were told, a line each. */
function told(lab: Lab, host: number): string[] {
  const file = join(lab.directory, `198.18.0.${host}.log`);
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8").trimEnd().split("\n").map((line) => line.trimEnd());
}

const subnetOf = async (lab: Lab, host: number) => (await lab.ready(host)).lease!.subnets[0]!;

describe("backend extension", () => {
  for (const self of [EXECUTABLE, UNDER_DENO]) {
    const runtime = self === EXECUTABLE ? "the executable" : "under Deno";
    test(`commands at the start, for each peer and at the end; pings go (${runtime})`, () =>
      withLab(2, async (lab) => {
        await lab.startRegistry(config(lab));
        await lab.startJoined(2, ["--release-on-exit"]);
        await lab.untilPeers(1, 1, 2);
        await lab.attach(1);
        await lab.attach(2);
        lab.assertPings([1, 2], [2, 1]);
        const [one, two] = [await subnetOf(lab, 1), await subnetOf(lab, 2)];
        const network = "10.210.0.0/16";
        assert.deepEqual(told(lab, 1), [
          "pre",
          `post ${network} ${one} 198.18.0.1`,
          `add ${network} ${two} 198.18.0.2 data of 198.18.0.2`,
        ]);
        const status = (await lab.host(2).status())!;
        assert.equal(status.backend!.mtu_bytes, status.interface!.mtu_bytes);
        await lab.stop(2);
        assert.deepEqual(told(lab, 2).slice(-2), [
          `remove ${network} ${one} 198.18.0.1 data of 198.18.0.1`,
          `shutdown ${network} ${two} 198.18.0.2`,
        ]);
        await lab.until(
          1,
          "not removed",
          () => told(lab, 1).at(-1) === `remove ${network} ${two} 198.18.0.2 data of 198.18.0.2`,
        );
        const routes = () => lab.exec(lab.network(1).host, "ip", "route", "show", two).stdout;
        await lab.until(1, "route not gone", () => routes() === "");
        assert.deepEqual((await lab.host(1).status())!.problems, []);
      }, self));
  }

  test("a command that fails is named, holds up nobody else, and is tried again", () =>
    withLab(3, async (lab) => {
      await lab.startRegistry(config(lab));
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      const refusal = join(lab.directory, "refuse-add");
      writeFileSync(refusal, "");
      await lab.startJoined(3);
      const failing = await lab.until(
        1,
        "no failure",
        ({ skippedPeers }) => skippedPeers.some(({ reason }) => /status 3/.test(reason)),
      );
      assert.deepEqual(failing.skippedPeers.map(({ reason }) => reason), [
        "SubnetAddCommand ended with status 3: no add today",
      ]);
      assert.equal(failing.backend!.peerCount, 1);
      assert.equal(failing.phase, "ready");
      assert.deepEqual([failing.ready, failing.problems], [true, []]);
      // Host 3 has no peer that its command has succeeded for.
      const all = "SubnetAddCommand failed for all 2 peers";
      const none = await lab.until(
        3,
        "serves",
        ({ problems }) => problems[0]?.startsWith(all) === true,
      );
      assert.equal(none.ready, false);
      assert.equal((await lab.host(3).client.readyz.$get()).status, 503);
      rmSync(refusal);
      await lab.until(
        3,
        "is not ready again",
        ({ ready, problems }) => ready && problems.length === 0,
      );
      await lab.untilPeers(2, 1, 2, 3);
      for (const host of [1, 2, 3]) await lab.attach(host);
      lab.assertPings([1, 3], [2, 3]);
    }));

  test("what is to run first may fail, too: it waits, and says for what", () =>
    withLab(2, async (lab) => {
      const [pre, post] = ["pre", "post"].map((what) => join(lab.directory, `refuse-${what}`));
      await lab.startRegistry(config(lab));
      writeFileSync(pre!, "");
      writeFileSync(post!, "");
      lab.launch(2, [`--join=@${await lab.joinFile()}`]);
      const reason = "PreStartupCommand ended with status 3: no pre today";
      await lab.until(2, "not waiting", ({ waitingFor }) => waitingFor === reason);
      rmSync(pre!);
      const problem = "PostStartupCommand ended with status 3: no post today";
      await lab.until(
        2,
        "no problem",
        ({ phase, problems }) => phase === "ready" && problems.includes(problem),
      );
      assert.ok(!told(lab, 2).some((line) => line.startsWith("add")), "peers come after it");
      rmSync(post!);
      await lab.untilPeers(1, 1, 2);
      assert.deepEqual((await lab.host(2).status())!.problems, []);
    }));

  for (const option of ["PreStartupCommand", "PostStartupCommand", "SubnetAddCommand"]) {
    test(`the daemon ends in time though ${option} does not`, () =>
      withLab(2, async (lab) => {
        const { Network } = config(lab);
        const started = join(lab.directory, "started");
        const command = `[ $(ip -4 -o address show dev eth0 | grep -c 198.18.0.2/) = 0 ] || ` +
          `{ touch '${started}'; sleep 1000; }`;
        await lab.startRegistry({ Network, Backend: { Type: "extension", [option]: command } });
        lab.launch(2, [`--join=@${await lab.joinFile()}`]);
        await lab.until(2, "not started", () => existsSync(started));
        if (option !== "SubnetAddCommand") {
          const status = await lab.until(
            2,
            "it does not say for what it waits",
            ({ waitingFor }) => waitingFor === `${option} is running`,
          );
          assert.equal(status.phase, "starting");
        }
        await lab.stop(2);
      }));
  }

  test("runs only where the host allows it, with an environment that holds no secret", () =>
    withLab(2, async (lab) => {
      const { Network } = config(lab);
      delete lab.env.SELVAGE_ALLOW_EXTENSION;
      const [ran, environment] = ["ran", "environment"].map((name) => join(lab.directory, name));
      const command = `touch '${ran}'; env > '${environment}'; echo data`;
      await lab.startRegistry({ Network });
      lab.env.ETCD_PASSWORD = "secret of etcd";
      lab.env.SELVAGE_TEST = "secret";
      await lab.startJoined(2);
      const file = join(lab.directory, "new.json");
      const Backend = { Type: "extension", PreStartupCommand: command };
      writeFileSync(file, JSON.stringify({ Network, Backend }));
      // The registry's host refuses what it would not do itself.
      const refused = lab.run(1, ["config", "set", file]);
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, /does not allow that\n.*--allow-extension/);
      await lab.stop(1);
      await lab.startRegistry({ Network, Backend }, ["--allow-extension"]);
      await lab.until(
        2,
        "does not refuse",
        ({ problems, waitingFor }) =>
          [...problems, waitingFor].some((text) => /does not allow that/.test(text ?? "")),
      );
      assert.match(lab.log(2), /does not allow that/);
      // A host that starts waits, holds no lease of the network, and says why.
      await lab.kill(2);
      rmSync(ran!);
      lab.launch(2, [`--join=@${await lab.joinFile()}`]);
      const isWaiting = ({ waitingFor }: Status) => /--allow-extension/.test(waitingFor ?? "");
      const { phase } = await lab.until(2, "does not wait", isWaiting);
      assert.equal(phase, "waiting_for_config");
      assert.ok(!existsSync(ran!), "nothing was run");
      await lab.stop(2);
      await lab.startJoined(2, ["--allow-extension"]);
      assert.ok(existsSync(ran!));
      assert.doesNotMatch(readFileSync(environment!, "utf8"), /secret|SELVAGE|FLANNELD|ETCD/);
      assert.match(lab.log(2), /PreStartupCommand of the network's configuration: touch /);
      assert.match(lab.log(2), /PreStartupCommand ended with status 0 after \d+\.\d\d s/);
    }));

  test("both families are told, and carried", () =>
    withLab(2, async (lab) => {
      for (const host of [1, 2]) giveOuterV6(lab, host);
      const ipv6 = { EnableIPv6: true, IPv6Network: "fd00:210::/48" };
      await lab.startRegistry({ ...config(lab), ...ipv6 });
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      const [one, two] = [(await lab.ready(1)).lease!.subnets, (await lab.ready(2)).lease!.subnets];
      const networks = ["10.210.0.0/16", "fd00:210::/48"];
      assert.deepEqual(told(lab, 1), [
        "pre",
        `post ${networks[0]} ${one[0]} 198.18.0.1 ${networks[1]} ${one[1]} 2001:db8::1`,
        `add ${networks[0]} ${two[0]} 198.18.0.2 ${networks[1]} ${two[1]} 2001:db8::2 ` +
        "data of 198.18.0.2",
      ]);
      await lab.attach(1);
      await lab.attach(2);
      attachV6(lab, 1, IpPrefix.parse(one[1]!));
      const far = attachV6(lab, 2, IpPrefix.parse(two[1]!));
      lab.assertPings([1, 2], [2, 1]);
      await lab.untilAnswered(1, far, performance.now() + 5_000);
    }));

  test("after kill -9 all peers are added again, also where the first try finds them there", () =>
    withLab(2, async (lab) => {
      const network = config(lab);
      await lab.startRegistry(network);
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      const before = told(lab, 1).length;
      await lab.kill(1);
      await lab.startRegistry(network);
      await lab.untilPeers(1, 1, 2);
      const after = told(lab, 1).slice(before).map((line) => line.split(" ")[0]);
      assert.deepEqual(after, ["pre", "post", "add", "remove", "add"]);
      await lab.attach(1);
      await lab.attach(2);
      lab.assertPings([1, 2]);
    }));
});
