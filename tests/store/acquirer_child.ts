/** Takes leases from the registry at a path until it is killed, and prints each it was given. */
import { writeSync } from "node:fs";
import { EmbeddedStore } from "../../src/store/embedded_store.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import { nodeNumber } from "../lease/sample.ts";

const [path, first] = process.argv.slice(2);
const store = new EmbeddedStore({ path: path! });
store.setConfig('{"Network": "10.0.0.0/8"}', "test");
for (let n = Number(first); n < Number(first) + 20_000; n++) {
  const lease = await store.acquire({ attributes: nodeNumber(n), previousSubnets: [] });
  // At once and whole: a line that is out was acknowledged.
  writeSync(1, `${leaseKey(lease.subnets)}\n`);
}
