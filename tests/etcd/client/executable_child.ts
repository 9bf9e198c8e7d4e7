/**
 * Run as a compiled executable: speaks to the etcd of argument 1 (options as JSON), and prints what
 * it saw as JSON, with its resident memory at each step, in bytes.
 */
import type { EtcdOptions } from "../../../src/etcd/client/open_etcd.ts";

const memory: Record<string, number> = {};
const note = (step: string) => memory[step] = process.memoryUsage().rss;

const options = JSON.parse(process.argv[2]!) as EtcdOptions;
note("start");
const { openEtcd } = await import("../../../src/etcd/client/open_etcd.ts");
note("loaded");
const etcd = openEtcd(options);
const { revision } = await etcd.transact([], [{ put: "/exe/a", value: "1", leaseId: 0n }], []);
note("connected");
const listed = (await etcd.list("/")).entries.length;
note("listed");
const abort = new AbortController();
const seen: string[] = [];
for await (const batch of etcd.watch("/exe/", revision, abort.signal)) {
  seen.push(...batch.map(({ entry }) => entry.key));
  if (seen.length === 1) {
    await etcd.transact([], [{ put: "/exe/b", value: "2", leaseId: 0n }], []);
  }
  if (seen.length === 2) abort.abort();
}
note("watched");
etcd.close();
// The process ends by itself: nothing of a closed client holds it.
process.stdout.write(`${JSON.stringify({ listed, seen, memory })}\n`);
