import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import {
  decodeAcknowledgement,
  decodeDone,
  messageSize_bytes,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  parseMessages,
  writeMessage,
} from "../../src/netlink/message.ts";
import { embed, hex, toHex } from "./hex.ts";

/** As Linux 6.18 answered a route with an unreachable gateway. */
const REFUSED = hex(`
  44000000 0200 0003 09000000 3e1d0000 | 9bffffff | 3c000000 1800 0506 09000000 00000000
  2000 0100 4e657874686f702068617320696e76616c6964206761746577617900`);
/** As it answered a request that it carried out. */
const ACCEPTED = hex(`
  24000000 0200 0001 02000000 3e1d0000 | 00000000 | 28000000 1300 0500 02000000 00000000`);
const DONE = hex("14000000 0300 0200 06000000 3e1d0000 | 00000000");

const SEEDED = { seed: 83, numRuns: 1000 };

describe("netlink messages", () => {
  test("golden bytes in: an acknowledgement with the kernel's own words", () => {
    const [message, ...rest] = parseMessages(embed(REFUSED));
    assert.deepEqual(rest, []);
    assert.equal(message!.type, NLMSG_ERROR);
    assert.equal(message!.sequence, 9);
    assert.equal(message!.portId, 0x1d3e);
    const text = "Nexthop has invalid gateway";
    assert.deepEqual(decodeAcknowledgement(message!), { errno: 101, text, offset: null });
  });

  test("golden bytes in: several messages in one datagram", () => {
    const messages = parseMessages(hex(toHex(ACCEPTED) + toHex(DONE)));
    assert.deepEqual(messages.map(({ type }) => type), [NLMSG_ERROR, NLMSG_DONE]);
    const success = { errno: 0, text: "", offset: null };
    assert.deepEqual(decodeAcknowledgement(messages[0]!), success);
    assert.deepEqual(decodeDone(messages[1]!), success);
  });

  test("golden bytes out: every byte up to the padding is written, none after it", () => {
    const buffer = new Uint8Array(32).fill(0xa5);
    const payload = hex("0102030405");
    const end = writeMessage(buffer, 4, { type: 18, flags: 5, sequence: 7, portId: 9, payload });
    assert.equal(end, 4 + messageSize_bytes(payload));
    assert.equal(
      toHex(buffer),
      toHex(hex("a5a5a5a5 | 15000000 1200 0500 07000000 09000000 0102030405 000000 | a5a5a5a5")),
    );
  });

  test("a message that does not fit is refused before anything is written", () => {
    const buffer = new Uint8Array(23).fill(0xa5);
    const message = { type: 1, flags: 0, sequence: 0, portId: 0, payload: new Uint8Array(5) };
    assert.throws(() => writeMessage(buffer, 0, message), RangeError);
    assert.ok(buffer.every((byte) => byte === 0xa5));
  });

  test("an acknowledgement that quotes the whole request has its attributes after it", () => {
    const payload = "ffffffff | 14000000 1800 0500 01000000 00000000 deadbeef | 0800 0200 10000000";
    const message = { type: 2, flags: 0x200, sequence: 1, portId: 0, payload: hex(payload) };
    assert.deepEqual(decodeAcknowledgement(message), { errno: 1, text: "", offset: 16 });
  });

  test("a truncated datagram is refused at every length", () => {
    for (let length = 1; length < REFUSED.length; length++) {
      assert.throws(() => parseMessages(REFUSED.slice(0, length)), NetlinkDecodeError, `${length}`);
    }
    assert.deepEqual(parseMessages(new Uint8Array(0)), []);
  });

  test("a truncated acknowledgement is refused at every length", () => {
    const [message] = parseMessages(REFUSED);
    const whole = message!.payload;
    for (let length = 0; length < whole.length; length++) {
      // Without its attributes alone it is whole.
      if (length === 20) continue;
      const short = { ...message!, payload: whole.slice(0, length) };
      assert.throws(() => decodeAcknowledgement(short), NetlinkDecodeError, `${length}`);
    }
    assert.throws(() => decodeDone({ ...message!, payload: new Uint8Array(3) }), /end of dump/);
  });

  test("lengths that lie are refused", () => {
    for (const length of [0, 1, NLMSG_HDRLEN - 1, REFUSED.length + 1, 0xffffffff]) {
      const bytes = REFUSED.slice();
      new DataView(bytes.buffer).setUint32(0, length, true);
      assert.throws(() => parseMessages(bytes), NetlinkDecodeError, `${length}`);
    }
    for (const quoted of [0, 15, 65, 0xffffffff]) {
      const [message] = parseMessages(REFUSED.slice());
      new DataView(message!.payload.buffer).setUint32(NLMSG_HDRLEN + 4, quoted, true);
      const whole = { ...message!, flags: 0x200 };
      assert.throws(() => decodeAcknowledgement(whole), NetlinkDecodeError, `${quoted}`);
    }
    const positive = hex("01000000 | 24000000 1300 0500 02000000 00000000");
    const message = { type: 2, flags: 0, sequence: 0, portId: 0, payload: positive };
    assert.throws(() => decodeAcknowledgement(message), /positive/);
  });

  test("any bytes are read or refused, and what is written reads the same", () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(bytes, (bytes) => {
        try {
          for (const message of parseMessages(bytes)) {
            decodeAcknowledgement(message);
            decodeDone(message);
          }
        } catch (error) {
          assert.ok(error instanceof NetlinkDecodeError, String(error));
        }
      }),
      SEEDED,
    );
    const message = fc.record({
      type: fc.nat(0xffff),
      flags: fc.nat(0xffff),
      sequence: fc.nat(0xffffffff),
      portId: fc.nat(0xffffffff),
      payload: bytes,
    });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
        const buffer = new Uint8Array(2000).fill(0xa5);
        const end = messages.reduce((offset, message) => writeMessage(buffer, offset, message), 0);
        const read = parseMessages(buffer.subarray(0, end));
        assert.deepEqual(read.map(({ payload, ...rest }) => ({ ...rest, payload: [...payload] })), [
          ...messages.map(({ payload, ...rest }) => ({ ...rest, payload: [...payload] })),
        ]);
      }),
      SEEDED,
    );
  });
});
