/**
 * Reads or writes keys of the etcd at an address that only this process's namespace reaches:
 * `ENDPOINT list PREFIX` prints pairs as JSON, `ENDPOINT put KEY VALUE` writes one without a lease,
 * `ENDPOINT delete KEY` deletes it.
 */
import process from "node:process";
import { openEtcd } from "../../src/etcd/client/open_etcd.ts";

const [endpoint, act, key, value] = process.argv.slice(2) as [string, string, string, string];
const nothing = { cafile: null, certfile: null, keyfile: null, username: null, password: null };
const etcd = openEtcd({ endpoints: [endpoint], ...nothing });
if (act === "list") {
  const { entries } = await etcd.list(key);
  console.log(JSON.stringify(entries.map((entry) => [entry.key, entry.value])));
} else {
  const operation = act === "put" ? { put: key, value, leaseId: 0n } : { delete: key };
  await etcd.transact([], [operation], []);
}
etcd.close();
process.exit(0);
