/**
 * Takes a lease as a host of another make does, says what the network's leases are, and ends; the
 * lease stays. LEASE_VALUE is what flannel writes of itself; what is printed is JSON too:
 *
 *     lease_child.ts JOIN_FILE LEASE_VALUE
 */
import process from "node:process";
import { leaseKey } from "../../src/lease/lease.ts";
import { parseLeaseValue } from "../../src/lease/lease_value.ts";
import { readJoinArgument } from "../../src/registry/join_string.ts";
import { RemoteStore } from "../../src/registry/remote_store.ts";

const [joinFile, value] = process.argv.slice(2) as [string, string];
const store = new RemoteStore(readJoinArgument(`@${joinFile}`));
const attributes = parseLeaseValue(value, "value");
const lease = await store.acquire({ attributes, previousSubnets: [] });
const key = leaseKey(lease.subnets);
const others = (await store.list()).filter((one) => leaseKey(one.subnets) !== key);
console.log(JSON.stringify({ key, others }));
await store.close();
