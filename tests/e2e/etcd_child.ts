/**
 * Reads or writes keys of the etcd at an address that only this process's namespace reaches:
 * `ENDPOINT list PREFIX` prints pairs as JSON; `ENDPOINT history KEY` prints what was in a key that
 * is there, one after the other, null where it was deleted; `ENDPOINT put KEY VALUE` writes one
 * without a lease, `ENDPOINT delete KEY` deletes it, `ENDPOINT expire KEY` ends etcd's lease under
 * it.
 */
import process from "node:process";
import { openEtcd } from "../../src/etcd/client/open_etcd.ts";

const [endpoint, act, key, value] = process.argv.slice(2) as [string, string, string, string];
const nothing = { cafile: null, certfile: null, keyfile: null, username: null, password: null };
const etcd = openEtcd({ endpoints: [endpoint], ...nothing });

async function history(): Promise<(string | null)[]> {
  const last = (await etcd.get(key)).entry!.modRevision;
  const values: (string | null)[] = [];
  for await (const events of etcd.watch(key, 1n, new AbortController().signal)) {
    for (const { type, entry } of events) values.push(type === "put" ? entry.value : null);
    if (events.some(({ entry }) => entry.modRevision >= last)) break;
  }
  return values;
}

if (act === "list") {
  const { entries } = await etcd.list(key);
  console.log(JSON.stringify(entries.map((entry) => [entry.key, entry.value])));
} else if (act === "history") {
  console.log(JSON.stringify(await history()));
} else if (act === "expire") {
  await etcd.revokeLease((await etcd.get(key)).entry!.leaseId);
} else {
  const operation = act === "put" ? { put: key, value, leaseId: 0n } : { delete: key };
  await etcd.transact([], [operation], []);
}
etcd.close();
process.exit(0);
