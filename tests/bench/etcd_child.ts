/**
 * What the benchmark of etcd runs in its namespaces.
 *
 *     etcd_child.ts fill URL PEERS    writes so many leases, as flannel's hosts have them
 *     etcd_child.ts join URL PEERS    joins as a host does, and says how long it took to the plan
 */
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { setTimeout as pause } from "node:timers/promises";
import { openEtcd } from "../../src/etcd/client/open_etcd.ts";
import { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { LeaseTable } from "../../src/lease/lease_table.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { ETCD_NETWORK, ETCD_PREFIX, type JoinTime } from "./etcd_join.ts";

const NETWORK = IpPrefix.parse(ETCD_NETWORK);
/** RFC 6598's shared addresses, for hosts that are not there. */
const FIRST_PUBLIC_ADDRESS = IpAddress.parse("100.64.0.1");
const OUR_ADDRESS = IpAddress.parse("192.0.2.1");
const VTEP_MAC = MacAddress.parse("02:54:00:00:00:00");
const START_MAX_MS = 20_000;
const RETRY_MS = 100;
/** etcd's own bound is 128. */
const BLOCK_SIZE = 100;

const [act, url, count] = process.argv.slice(2) as [string, string, string];
const peerCount = Number(count);
const etcd = openEtcd({
  endpoints: [url],
  ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
});

function entryOf(number: number): { put: string; value: string; leaseId: bigint } {
  const subnet = NETWORK.address.add(BigInt(number + 1) << 8n);
  const mac = number.toString(16).padStart(8, "0").replace(/..(?=.)/g, "$&:");
  const value = {
    PublicIP: `${FIRST_PUBLIC_ADDRESS.add(BigInt(number))}`,
    PublicIPv6: null,
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: `02:53:${mac}` },
  };
  const put = `${ETCD_PREFIX}/subnets/${subnet}-24`;
  return { put, value: JSON.stringify(value), leaseId: 0n };
}

/** It may have been started a moment ago. */
async function untilItAnswers(): Promise<void> {
  const end_ms = performance.now() + START_MAX_MS;
  while (true) {
    try {
      return void await etcd.get(ETCD_PREFIX);
    } catch (error) {
      if (performance.now() > end_ms) throw error;
      await pause(RETRY_MS);
    }
  }
}

async function fill(): Promise<void> {
  await untilItAnswers();
  const config = { Network: `${NETWORK}`, SubnetLen: 24, Backend: { Type: "vxlan" } };
  const put = { put: `${ETCD_PREFIX}/config`, value: JSON.stringify(config), leaseId: 0n };
  await etcd.transact([], [put], []);
  for (let first = 0; first < peerCount; first += BLOCK_SIZE) {
    const block = Array.from({ length: BLOCK_SIZE }, (_, i) => entryOf(first + i));
    await etcd.transact([], block, []);
  }
}

async function join(): Promise<JoinTime> {
  const store = new EtcdStore({ etcd, prefix: ETCD_PREFIX });
  const config = await store.readConfig();
  const backend = selectBackend(config, ANY_HOST);
  const link = {
    ...{ name: "eth0", index: 2, mtu_bytes: 1500, ways: [] },
    ...{ addresses: [OUR_ADDRESS], publicAddresses: [OUR_ADDRESS] },
  };
  const vtepMacs = { 4: VTEP_MAC, 6: VTEP_MAC };
  const attributes = backend.attributes(config, link, vtepMacs);
  const lease = await store.acquire({ attributes, previousSubnets: [] });
  for await (const changes of store.watch(new AbortController().signal)) {
    const table = LeaseTable.EMPTY.apply(changes);
    const peers = table.leases.filter((one) => one.subnets[0]!.compare(lease.subnets[0]!) !== 0);
    const { kernel } = backend.plan({ config, link, vtepMacs, lease, peers });
    if (kernel.routes.length !== peerCount) {
      throw new Error(`${kernel.routes.length} of ${peerCount} peers are planned`);
    }
    // Since the process began.
    const joined = { time_ms: performance.now(), callCount: etcd.callCount };
    await store.release(lease);
    return joined;
  }
  throw new Error("the watch has ended");
}

if (act === "fill") await fill();
else console.log(JSON.stringify(await join()));
process.exit(0);
