import assert from "node:assert/strict";
import { test } from "node:test";
import { KnownLeases } from "../../src/agent/known_leases.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { type Lease, leaseKey, parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";

const CONFIG = parseNetworkConfig('{"Network":"10.5.0.0/16"}', "test");

function lease(key: string, address: string, expiry_ms: number | null): Lease {
  return {
    subnets: parseLeaseKey(key),
    publicAddresses: [IpAddress.parse(address)],
    backendType: "udp",
    backendData: {},
    expiry_ms,
  };
}

test("a reservation for this host is no peer: a notice says from when it is used", () => {
  const own = lease("10.5.1.0-24", "192.0.2.1", 1);
  const others = [lease("10.5.2.0-24", "192.0.2.2", 1), lease("10.5.3.0-24", "192.0.2.3", null)];
  // The last one is from a time when the network was another.
  const reserved = ["10.5.78.0-24", "10.9.1.0-24"].map((key) => lease(key, "192.0.2.1", null));
  const known = new KnownLeases();
  known.apply([own, ...others, ...reserved].map((one) => ({
    type: "put",
    key: leaseKey(one.subnets),
    lease: one,
  })));
  const keeper = { lease: own, lostSince_ms: null, isOwn: (one: Lease) => one === own };
  assert.deepEqual(known.peers(keeper), others);
  const [used, outside, ...rest] = known.reservationNotices(keeper, CONFIG);
  assert.equal(
    used,
    "10.5.78.0/24 is reserved for this host, which uses 10.5.1.0/24 now. " +
      "Restart selvage on this host to use the reserved subnet",
  );
  assert.match(outside!, /^10\.9\.1\.0\/24 .* does not lie in the network\. Revoke it/);
  assert.deepEqual(rest, []);
  // The host has moved there.
  assert.equal(
    known.reservationNotices({ lease: reserved[0]! }, CONFIG).some((one) => /^10\.5\.78/.test(one)),
    false,
  );
});
