import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { partedProblem } from "../../src/agent/parted_notice.ts";
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { type Lease, parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";

function peer(n: number, changes: Partial<Lease> = {}): Lease {
  return {
    subnets: parseLeaseKey(`10.1.${n}.0-24`),
    publicAddresses: [IpAddress.parse(`192.0.2.${n}`)],
    backendType: "udp",
    backendData: {},
    expiry_ms: undefined,
    ...changes,
  };
}

const vtep = (n: number, VNI = 1): Partial<Lease> => ({
  backendType: "vxlan",
  backendData: { 4: { VNI, VtepMAC: `ea:18:5c:b2:85:0${n}` } },
});

function problem(backend: object, peers: Lease[], outdated: string | null = null): string | null {
  const text = JSON.stringify({ Network: "10.1.0.0/16", Backend: backend });
  const config = parseNetworkConfig(text, "test");
  return partedProblem({ config, backend: selectBackend(config, ANY_HOST), peers, outdated });
}

const UDP = { Type: "udp" };
const VXLAN = { Type: "vxlan" };

describe("peers with another configuration", () => {
  test("are named, with what they have and where to restart", () => {
    const text = problem(UDP, [peer(1), peer(2, vtep(2)), peer(3, vtep(3))])!;
    assert.match(
      text,
      /backend udp\) and 2 of its 3 peers: 192\.0\.2\.2, 192\.0\.2\.3 have backend vxlan/,
    );
    assert.match(text, /Restart Selvage on these hosts/);
    assert.match(text, /selvage leases revoke 10\.1\.2\.0-24/);
    const here = problem(UDP, [peer(2, vtep(2))], "the backend vxlan in place of udp")!;
    assert.match(here, /Restart Selvage on this host: .* vxlan in place of udp/);
  });
  test("a reservation whose host has not come is not counted as a peer", () => {
    const reserved = peer(3, { expiry_ms: null, awaitsHost: true });
    assert.match(problem(UDP, [peer(1), peer(2, vtep(2)), reserved])!, /1 of its 2 peers/);
  });
  test("another VNI, and a subnet of another network", () => {
    assert.match(problem(VXLAN, [peer(2, vtep(2, 7))])!, /192\.0\.2\.2 has VNI 7/);
    const outside = peer(2, { subnets: parseLeaseKey("10.9.0.0-24") });
    assert.match(problem(UDP, [outside])!, /has a subnet outside 10\.1\.0\.0\/16/);
  });
  test("none of these: nothing to say", () => {
    assert.equal(problem(UDP, [peer(1), peer(2)]), null);
    assert.equal(problem(VXLAN, [peer(1, vtep(1))]), null);
  });
  test("a host that carries nothing is apart from nobody", () => {
    assert.equal(problem({ Type: "alloc" }, [peer(1), peer(2, vtep(2))]), null);
  });
  test("a reservation whose host has not come is no fault, unless this host is the old one", () => {
    const reserved = peer(2, { expiry_ms: null });
    assert.equal(problem({ Type: "host-gw" }, [reserved]), null);
    assert.notEqual(problem({ Type: "host-gw" }, [reserved], "the backend udp"), null);
    // One that has come is.
    const node = { id: "0123456789abcdef0123456789abcdef", run: "" };
    assert.notEqual(problem({ Type: "host-gw" }, [{ ...reserved, node }]), null);
    assert.notEqual(problem(UDP, [peer(2, { ...vtep(2), expiry_ms: null })]), null);
    // What a host left behind when it moved is none either.
    const moved = [peer(2, { ...vtep(2), expiry_ms: null }), {
      ...peer(3),
      publicAddresses: [IpAddress.parse("192.0.2.2")],
    }];
    assert.equal(problem(UDP, moved), null);
  });
});
