/**
 * A node whose etcd is away: `ENDPOINT SETTLE_MS WINDOW_MS`. Prints the part of a processor that it
 * takes, in a process where nothing else runs.
 */
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { openEtcd } from "../../src/etcd/client/open_etcd.ts";
import { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { Follower } from "../store/harness.ts";

const [endpoint, settle, window] = process.argv.slice(2) as [string, string, string];
const nothing = { cafile: null, certfile: null, keyfile: null, username: null, password: null };
const etcd = openEtcd({ endpoints: [endpoint], ...nothing });
const store = new EtcdStore({ etcd, prefix: "/coreos.com/network" });
const follower = new Follower(store);
await pause(Number(settle));
const before = process.cpuUsage();
const start_ms = performance.now();
await pause(Number(window));
const { user, system } = process.cpuUsage(before);
console.log((user + system) / 1000 / (performance.now() - start_ms));
await follower.stop();
await store.close();
process.exit(0);
