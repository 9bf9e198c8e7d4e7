/**
 * Takes leases as hosts of another make do, and ends; the leases stay. Each LEASE_VALUE is what
 * flannel writes of itself, as JSON, and is answered by one line of JSON, the last also with all
 * other leases:
 *
 *     lease_child.ts JOIN_FILE LEASE_VALUE...
 */
import process from "node:process";
import { leaseKey } from "../../src/lease/lease.ts";
import { parseLeaseValue } from "../../src/lease/lease_value.ts";
import { readJoinArgument } from "../../src/registry/join_string.ts";
import { RemoteStore } from "../../src/registry/remote_store.ts";

const [joinFile, ...values] = process.argv.slice(2) as [string, ...string[]];
const store = new RemoteStore(readJoinArgument(`@${joinFile}`));
for (const [i, value] of values.entries()) {
  const attributes = parseLeaseValue(value, "value");
  const lease = await store.acquire({ attributes, previousSubnets: [] });
  const key = leaseKey(lease.subnets);
  const all = i === values.length - 1 ? await store.list() : [];
  const others = all.filter((one) => leaseKey(one.subnets) !== key);
  console.log(JSON.stringify({ key, others }));
}
await store.close();
