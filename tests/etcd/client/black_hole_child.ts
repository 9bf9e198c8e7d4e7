/**
 * Run in namespaces of its own (network, mounts), where packets to one host and to the name server
 * are lost. Prints as JSON what a client says of both, and how many attempts to connect there
 * are while one is waited for, and after all clients were closed.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { errorText } from "../../../src/errors.ts";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";

const HOST = "10.99.0.2";
const SETUP = [
  "ip link set lo up",
  "ip link add hole type veth peer name end",
  "ip address add 10.99.0.1/24 dev hole",
  "ip link set hole up",
  "ip link set end up",
  `ip neighbour add ${HOST} lladdr 02:00:00:00:00:02 dev hole`,
];
const NONE = { cafile: null, certfile: null, keyfile: null, username: null, password: null };

/** Sockets that wait for the answer to a SYN (state 02 in proc_net_tcp(5)). */
function connectingCount(): number {
  const rows = readFileSync("/proc/net/tcp", "utf8").trim().split("\n").slice(1);
  return rows.filter((row) => row.trim().split(/\s+/)[3] === "02").length;
}

/** Their number, as soon as it is this one; after a while whatever it is. */
async function settledCount(expected: number): Promise<number> {
  for (let i = 0; i < 200 && connectingCount() !== expected; i++) await pause(10);
  return connectingCount();
}

/** A client of its own, and what its one call comes to. */
function told(host: string, connect_ms: number): { text: Promise<string>; close: () => void } {
  const etcd = openEtcd({ endpoints: [`http://${host}:2379`], ...NONE, connect_ms });
  return { text: etcd.get("/a").then(() => "no error", errorText), close: () => etcd.close() };
}

for (const line of SETUP) {
  const [command, ...args] = line.split(" ") as [string, ...string[]];
  execFileSync(command, args);
}
const directory = mkdtempSync(join(tmpdir(), "selvage-hole-"));
const resolvers = join(directory, "resolv.conf");
writeFileSync(resolvers, `nameserver ${HOST}\n`);
execFileSync("mount", ["--bind", resolvers, "/etc/resolv.conf"]);
try {
  const host = told(HOST, 200);
  const name = told("etcd.lan", 200);
  const texts = { host: await host.text, name: await name.text };
  // Closed while it connects.
  const last = told(HOST, 5_000);
  const connectingBefore = await settledCount(1);
  for (const client of [host, name, last]) client.close();
  await last.text;
  const connecting = await settledCount(0);
  console.log(JSON.stringify({ ...texts, connectingBefore, connecting }));
} finally {
  execFileSync("umount", ["/etc/resolv.conf"]);
  rmSync(directory, { recursive: true });
}
// A resolver that runs cannot be ended.
process.exit(0);
