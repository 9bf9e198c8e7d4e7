/** The executable by the name of flanneld, as a unit of flannel's starts it, over a real etcd. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

const CONFIG = '{"Network":"10.210.0.0/16","Backend":{"Type":"vxlan"}}';
const TIMEOUT_MS = 30_000;

/** Looks until it is there. */
async function until<T>(what: string, look: () => T | null): Promise<T> {
  const end_ms = performance.now() + TIMEOUT_MS;
  while (performance.now() < end_ms) {
    const seen = look();
    if (seen !== null) return seen;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: not within ${TIMEOUT_MS} ms`);
}

class FlannelNetwork {
  readonly children: ChildProcess[] = [];
  readonly etcd: LabEtcd;

  constructor(readonly lab: Lab) {
    this.etcd = new LabEtcd(lab);
    symlinkSync(EXECUTABLE.command, this.path("flanneld"));
  }

  path(name: string): string {
    return join(this.lab.directory, name);
  }

  /** What a unit of flannel's has, flags and environment; the rest keeps hosts apart. */
  startFlanneld(host: number): ChildProcess {
    const directory = this.lab.hostDirectory(host);
    const log = openSync(join(directory, "log"), "a", 0o600);
    const args = [
      ...["-etcd-prefix=/coreos.com/network", "-iface=eth0", "-ip-masq", "--ip-blackhole-route"],
      ...["-healthz-ip", "127.0.0.1", "-healthz-port=8080", "-v=0", "-logtostderr"],
      ...["-etcd-cafile=", `-subnet-file=${join(directory, "subnet.env")}`],
    ];
    const child = spawnInNetns(
      this.lab.network(host).host,
      this.path("flanneld"),
      args,
      ["ignore", log, log],
      {
        FLANNELD_ETCD_ENDPOINTS: `http://127.0.0.1:4001,${this.etcd.url}`,
        FLANNELD_IPTABLES_RESYNC: "9",
        SELVAGE_STATE_DIR: directory,
        SELVAGE_API_SOCKET: join(directory, "api.sock"),
      },
    );
    this.children.push(child);
    return child;
  }

  status(host: number): Status | null {
    const { status, stdout } = this.lab.run(host, ["status", "--json"]);
    return status === 0 ? JSON.parse(stdout) as Status : null;
  }

  /** `/healthz` or `/readyz` of a host: the status code. */
  health(host: number, path: string): string {
    const request = `GET ${path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n`;
    const script = `exec 3<>/dev/tcp/127.0.0.1/8080 && printf '${request}' >&3 && head -1 <&3`;
    const { stdout } = this.lab.exec(this.lab.network(host).host, "bash", "-c", script);
    return stdout.split(" ")[1] ?? "";
  }

  async close(): Promise<void> {
    await Promise.all(this.children.map(endProcess));
    await this.etcd.close();
  }
}

test("flanneld by a link: waits for etcd and its configuration, then all is in place", () =>
  withLab(2, async (lab) => {
    const network = new FlannelNetwork(lab);
    try {
      network.startFlanneld(1);
      const lost = await until("the loss told", () => {
        const status = network.status(1);
        return status?.store?.lastError ? status : null;
      });
      assert.deepEqual([lost.phase, lost.store?.kind], ["waiting_for_store", "etcd"]);
      assert.match(lost.waitingFor!, /connection refused/);
      assert.deepEqual([network.health(1, "/healthz"), network.health(1, "/readyz")], [
        "200",
        "503",
      ]);

      network.etcd.start();
      await until(
        "no configuration",
        () => network.status(1)?.phase === "waiting_for_config" || null,
      );
      writeFileSync(network.path("net-conf.json"), CONFIG);
      const set = network.etcd.run(2, "config", "set", network.path("net-conf.json"));
      assert.equal(set.status, 0, set.stderr);
      network.startFlanneld(2);

      const isReady = (host: number) => () => {
        const status = network.status(host);
        return status?.phase === "ready" && status.peers.length === 1 ? status : null;
      };
      const [one, two] = [await until("1", isReady(1)), await until("2", isReady(2))];
      assert.match(one.store!.location, /198\.18\.0\.1:2379\/coreos\.com\/network$/);
      assert.equal(one.store!.connected, true);
      assert.deepEqual(one.peers[0]!.subnets, two.lease!.subnets);
      assert.equal(network.health(1, "/readyz"), "200");
      assert.match(lab.log(1), /--iptables-resync: there is nothing to repeat/);

      const env = readFileSync(join(lab.hostDirectory(1), "subnet.env"), "utf8");
      assert.match(env, /^FLANNEL_NETWORK=10\.210\.0\.0\/16\nFLANNEL_SUBNET=10\.210\.\d+\.1\/24\n/);
      assert.match(env, /FLANNEL_IPMASQ=true\n$/);
      const { host } = lab.network(1);
      const routes = lab.exec(host, "ip", "route", "show", "type", "blackhole").stdout;
      assert.match(routes, new RegExp(`^blackhole ${one.lease!.subnets[0]} proto 83 metric`));
      assert.match(lab.exec(host, "nft", "list", "table", "ip", "selvage").stdout, /masquerade/);

      const listed = network.etcd.run(1, "leases", "list", "--json");
      assert.equal(JSON.parse(listed.stdout).length, 2, listed.stderr);
      const text = lab.run(1, ["status"]).stdout;
      assert.match(text, /^Store +etcd, http:\/\/198\.18\.0\.1:2379.*, connected for /m);
    } finally {
      await network.close();
    }
  }));
