/**
 * While no packets can be carried nobody is told of a subnet, and the overlay's packets do not
 * leave by the host's default route.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { ip } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";

const NETWORK = "10.210.0.0/16";
/** Of no host's subnet. */
const NOBODYS = "10.210.250.7";

const subnetFile = (lab: Lab) => join(lab.hostDirectory(1), "subnet.env");

/** Where host 1 sends what is for this address: the device, or what the kernel says. */
function wayTo(lab: Lab, address: string): string {
  const { stdout, stderr } = lab.exec(lab.network(1).host, "ip", "route", "get", address);
  return /dev (\S+)/.exec(stdout)?.[1] ?? stderr.trim();
}

function assertUnreachable(lab: Lab): void {
  assert.match(wayTo(lab, NOBODYS), /unreachable|No route to host/);
  assert.equal(wayTo(lab, "192.0.2.1"), "eth0", "the default route is there");
}

describe("without a path", () => {
  test("of vxlan, as its device's name is taken: no subnet.env until it can be made", () =>
    withLab(2, async (lab) => {
      const config = { Network: NETWORK, Backend: { Type: "vxlan", Datapath: "kernel" } };
      // The registry has its configuration from a first run, which has left nothing.
      await lab.startRegistry(config, ["--release-on-exit"]);
      await lab.stop(1);
      assert.equal(wayTo(lab, NOBODYS), "eth0");
      lab.exec(lab.network(1).host, "rm", subnetFile(lab));
      ip(lab, lab.network(1).host, "link add selvage.1 type bridge");
      lab.launch(1, []);
      const status = await lab.until(
        1,
        "does not wait",
        ({ waitingFor }) => waitingFor?.includes("selvage.1") === true,
      );
      assert.equal(status.ready, false);
      assert.ok(!existsSync(subnetFile(lab)), "subnet.env is there");
      assertUnreachable(lab);
      ip(lab, lab.network(1).host, "link delete selvage.1");
      await lab.ready(1);
      assert.ok(existsSync(subnetFile(lab)));
      // Also with a path nothing leaves for subnets that nobody has.
      assertUnreachable(lab);
      await lab.stop(1);
    }));

  test("of udp, as another's route is in its way: no subnet.env until that is gone", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry({ Network: NETWORK }, ["--release-on-exit"]);
      await lab.stop(1);
      lab.exec(lab.network(1).host, "rm", subnetFile(lab));
      ip(lab, lab.network(1).host, `route add ${NETWORK} via ${lab.network(2).outerAddress}`);
      lab.launch(1, []);
      const { ready } = await lab.until(
        1,
        "does not wait",
        ({ waitingFor }) => waitingFor?.includes("no packets can be carried yet") === true,
      );
      assert.equal(ready, false);
      assert.ok(!existsSync(subnetFile(lab)), "subnet.env is there");
      ip(lab, lab.network(1).host, `route delete ${NETWORK} via ${lab.network(2).outerAddress}`);
      await lab.ready(1);
      assert.ok(existsSync(subnetFile(lab)));
      assert.equal(wayTo(lab, NOBODYS), "selvage0");
    }));

  test("of udp, as subnet.env cannot be written: logged once, and ready when it can", () =>
    withLab(2, async (lab) => {
      const { host } = lab.network(1);
      await lab.startRegistry({ Network: NETWORK }, ["--release-on-exit"]);
      await lab.stop(1);
      rmSync(subnetFile(lab));
      const way = `${NETWORK} via ${lab.network(2).outerAddress}`;
      ip(lab, host, `route add ${way}`);
      lab.launch(1, []);
      const isHeld = ({ waitingFor }: Status) => waitingFor?.includes("no packets") === true;
      await lab.until(1, "does not wait", isHeld);
      // Nothing can be renamed over a directory that is not empty.
      mkdirSync(join(subnetFile(lab), "in-the-way"), { recursive: true });
      ip(lab, host, `route delete ${way}`);
      const isRefused = ({ waitingFor }: Status) => waitingFor?.includes("subnet.env") === true;
      await lab.until(1, "says nothing", isRefused);
      // Each repair is a check.
      for (let i = 0; i < 3; i++) {
        ip(lab, host, `route delete ${NETWORK} dev selvage0`);
        await lab.until(1, "no repair", () => wayTo(lab, NOBODYS) === "selvage0");
      }
      assert.equal(lab.log(1).match(/ERROR +agent: cannot write/g)?.length, 1, lab.log(1));
      // The daemon looks after its files when the kernel has long reported nothing.
      const nodeId = join(lab.hostDirectory(1), "node_id");
      rmSync(nodeId);
      await lab.until(1, "node_id is not written", () => existsSync(nodeId));
      rmSync(subnetFile(lab), { recursive: true });
      await lab.ready(1);
      assert.ok(existsSync(subnetFile(lab)));
    }));

  test("of ipip: as the kernel has it or not", () =>
    withLab(2, async (lab) => {
      const probe = lab.exec(lab.network(2).host, "ip", "link", "add", "x", "type", "ipip");
      const hasIpip = probe.status === 0;
      const file = join(lab.directory, "ipip.json");
      writeFileSync(file, JSON.stringify({ Network: NETWORK, Backend: { Type: "ipip" } }));
      lab.launch(1, [`--net-config=${file}`]);
      const { waitingFor } = await lab.until(
        1,
        "does nothing",
        ({ phase, waitingFor }) => phase === "ready" || waitingFor?.includes("ipip") === true,
      );
      assert.equal(waitingFor === null, hasIpip);
      assert.equal(existsSync(subnetFile(lab)), hasIpip);
      assertUnreachable(lab);
    }));

  test("of udp that ended, killed or told to: nothing leaves; with --release-on-exit it does", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry({ Network: NETWORK });
      assert.equal(wayTo(lab, NOBODYS), "selvage0");
      await lab.kill(1);
      assertUnreachable(lab);
      await lab.startRegistry({ Network: NETWORK });
      assert.equal(wayTo(lab, NOBODYS), "selvage0");
      await lab.stop(1);
      assertUnreachable(lab);
      await lab.startRegistry({ Network: NETWORK }, ["--release-on-exit"]);
      await lab.stop(1);
      assert.equal(wayTo(lab, NOBODYS), "eth0");
    }));
});
