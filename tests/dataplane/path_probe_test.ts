import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { buildProbe, readAnswer, readTooBig, tokenText } from "../../src/dataplane/path_probe.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { hex, naiveChecksum, packet } from "../wasm/packets.ts";

const TOKEN = Uint8Array.from({ length: 16 }, (_, i) => 0xa0 + i);
const OUR_MAC = MacAddress.parse("02:00:00:00:00:01");
const PEER_MAC = MacAddress.parse("02:00:00:00:00:02");

/** The checksum of ICMPv6 with its pseudo-header. */
function checksum6(bytes: Uint8Array): number {
  const length = bytes.length - 40;
  const pseudo = [...bytes.subarray(8, 40), 0, 0, length >> 8, length & 0xff, 0, 0, 0, 58];
  return naiveChecksum(Uint8Array.from([...pseudo, ...bytes.subarray(40)]));
}

describe("a probe", () => {
  test("of udp is one IPv4 packet that must not be cut", () => {
    const bytes = buildProbe({
      encapsulation: { type: "none" },
      from: IpAddress.parse("10.0.1.0"),
      to: { subnet: IpPrefix.parse("10.0.2.0/24"), vtepMac: null },
      size_bytes: 1473,
      token: TOKEN,
    });
    assert.equal(bytes.length, 1473);
    assert.equal(hex(bytes.subarray(0, 10)), "450005c10000400040" + "01");
    assert.deepEqual([...bytes.subarray(12, 20)], [10, 0, 1, 0, 10, 0, 2, 0]);
    assert.equal(naiveChecksum(bytes.subarray(0, 20)), 0);
    assert.equal(naiveChecksum(bytes.subarray(20)), 0);
    bytes[20] = 0;
    assert.equal(readAnswer(bytes, 4), tokenText(TOKEN));
    bytes[20] = 8;
    assert.equal(readAnswer(bytes, 4), null, "a request is no answer");
    assert.equal(readAnswer(bytes.subarray(0, 40), 4), null);
  });

  test("of vxlan for IPv6 is a frame to the peer's VTEP", () => {
    const bytes = buildProbe({
      encapsulation: { type: "vxlan", vni: 7, vtepMac: OUR_MAC },
      from: IpAddress.parse("fd00:0:0:1::"),
      to: { subnet: IpPrefix.parse("fd00:0:0:2::/64"), vtepMac: PEER_MAC },
      size_bytes: 1280,
      token: TOKEN,
    });
    const head = "0800000000000700" + "020000000002" + "020000000001" + "86dd";
    assert.equal(hex(bytes.subarray(0, 22)), head);
    const inner = bytes.subarray(22);
    assert.equal(inner.length, 1280);
    assert.equal(hex(inner.subarray(0, 8)), "6000000004d83a40");
    assert.equal(checksum6(inner), 0);
    const answer = inner.slice(40);
    answer[0] = 129;
    assert.equal(readAnswer(answer, 6), tokenText(TOKEN));
  });
});

describe("what a router says", () => {
  const udp = Uint8Array.of(0x20, 0x5d, 0x20, 0x5d, 5, 0, 0, 0);
  const quoted = packet({ from: "192.0.2.1", to: "192.0.2.2", payload: udp });
  const said = (type: number, code: number, about: Uint8Array) =>
    packet({ protocol: 1, payload: Uint8Array.of(type, code, 0, 0, 0, 0, 5, 20, ...about) });

  test("of IPv4 is read, and everything else is not", () => {
    assert.deepEqual(readTooBig(said(3, 4, quoted), 4), {
      destination: IpAddress.parse("192.0.2.2"),
      port: 8285,
      mtu_bytes: 1300,
    });
    assert.equal(readTooBig(said(3, 3, quoted), 4), null, "port unreachable");
    assert.equal(readTooBig(said(11, 4, quoted), 4), null);
    assert.equal(readTooBig(said(3, 4, packet({ protocol: 6, payload: udp })), 4), null, "TCP");
    const whole = said(3, 4, quoted);
    for (let size = 0; size < whole.length; size++) {
      assert.equal(readTooBig(whole.subarray(0, size), 4), null, `${size} bytes`);
    }
  });

  test("of IPv6 is read, and what is cut off is not", () => {
    const message = new Uint8Array(8 + 40 + 8);
    message.set([2, 0, 0, 0, 0, 0, 5, 0, 0x60, 0, 0, 0, 5, 0, 17, 64]);
    message.set(IpAddress.parse("2001:db8::2").toBytes(), 8 + 24);
    message.set([0x21, 0x18, 0x21, 0x18], 48);
    assert.deepEqual(readTooBig(message, 6), {
      destination: IpAddress.parse("2001:db8::2"),
      port: 8472,
      mtu_bytes: 1280,
    });
    for (let size = 0; size < message.length; size++) {
      assert.equal(readTooBig(message.subarray(0, size), 6), null, `${size} bytes`);
    }
  });
});
