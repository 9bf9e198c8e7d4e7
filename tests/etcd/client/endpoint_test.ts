import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEndpoint, parseEndpoints } from "../../../src/etcd/client/endpoint.ts";
import { EndpointOrder } from "../../../src/etcd/client/endpoint_order.ts";
import { SelvageError } from "../../../src/errors.ts";

const READ: readonly [text: string, host: string, port: number, isTls: boolean, shown: string][] = [
  ["http://10.0.0.1:2379", "10.0.0.1", 2379, false, "http://10.0.0.1:2379"],
  [" https://etcd.lan:2379/ ", "etcd.lan", 2379, true, "https://etcd.lan:2379"],
  ["HTTPS://Etcd-1.Lan.:443", "etcd-1.lan.", 443, true, "https://etcd-1.lan.:443"],
  ["http://[FD00::0:1]:4001", "fd00::1", 4001, false, "http://[fd00::1]:4001"],
  ["[::1]:2379", "::1", 2379, false, "http://[::1]:2379"],
  ["localhost:2379", "localhost", 2379, false, "http://localhost:2379"],
];

for (const [text, host, port, isTls, shown] of READ) {
  test(`endpoint ${text} is read`, () => {
    assert.deepEqual(parseEndpoint(text, false), { text: shown, host, port, isTls });
  });
}

test("an endpoint without a scheme is https where certificates are given", () => {
  assert.equal(parseEndpoint("10.0.0.1:2379", true).text, "https://10.0.0.1:2379");
  assert.equal(parseEndpoint("http://10.0.0.1:2379", true).text, "http://10.0.0.1:2379");
});

const REFUSED: readonly [text: string, why: RegExp][] = [
  ["", /not ADDRESS:PORT/],
  ["http://", /not ADDRESS:PORT/],
  ["10.0.0.1", /needs a port/],
  ["http://etcd.lan", /needs a port/],
  ["http://etcd.lan:0", /0 is no port/],
  ["http://etcd.lan:65536", /65536 is no port/],
  ["http://etcd.lan:23x", /not ADDRESS:PORT/],
  ["http://256.0.0.1:2379", /no IPv4 address/],
  ["http://010.0.0.1:2379", /no IPv4 address/],
  ["fd00::1:2379", /IPv6 address goes in brackets/],
  ["http://[10.0.0.1]:2379", /no IPv6 address/],
  ["http://[fe80::1%eth0]:2379", /with a zone/],
  ["unix:///run/etcd.sock", /scheme unix/],
  ["http://etcd.lan:2379/v2", /not ADDRESS:PORT/],
  ["http://root:secret@etcd.lan:2379", /user name/],
  ["http://-etcd:2379", /no host name/],
  ["http://a b:2379", /no host name/],
];

for (const [text, why] of REFUSED) {
  test(`endpoint ${JSON.stringify(text)} is refused`, () => {
    assert.throws(() => parseEndpoint(text, false), (error: unknown) => {
      assert.ok(error instanceof SelvageError);
      assert.equal(error.code, "invalid_argument");
      assert.match(error.message, why);
      assert.match(
        error.hint,
        text.includes("%") ? /zone, .*not supported/ : /^Write endpoints as/,
      );
      return true;
    });
  });
}

test("endpoints keep their order, and one named twice counts once", () => {
  const texts = ["http://b:1", "a:1", "http://a:1", "http://B:1/"];
  assert.deepEqual(parseEndpoints(texts, false).map(({ text }) => text), [
    "http://b:1",
    "http://a:1",
  ]);
});

test("no endpoint at all, or very many, are refused", () => {
  assert.throws(() => parseEndpoints([], false), /no endpoint/);
  const many = Array.from({ length: 65 }, (_, i) => `http://a${i}:1`);
  assert.throws(() => parseEndpoints(many, false), /65 endpoints/);
});

test("the endpoint that answered is kept, and those that failed come last for a while", () => {
  let now_ms = 1000;
  const order = new EndpointOrder(3, () => now_ms);
  assert.deepEqual(order.candidates(), [0, 1, 2]);
  order.failed(0);
  assert.deepEqual(order.candidates(), [1, 2, 0]);
  order.succeeded(1);
  assert.equal(order.current, 1);
  now_ms += 60_000;
  assert.deepEqual(order.candidates(), [1, 2, 0], "it does not go back by itself");
  order.failed(1);
  now_ms += 1;
  order.failed(2);
  assert.deepEqual(order.candidates()[0], 0);
  order.failed(0);
  assert.equal(order.candidates().length, 3, "where all have failed all are tried");
});

test("an endpoint that fails again and again is avoided for longer, but not for ever", () => {
  let now_ms = 0;
  const order = new EndpointOrder(2, () => now_ms);
  const avoided_ms: number[] = [];
  for (let i = 0; i < 10; i++) {
    const start_ms = now_ms;
    order.failed(0);
    while (order.candidates()[0] !== 0) now_ms += 10;
    avoided_ms.push(now_ms - start_ms);
  }
  assert.ok(avoided_ms[0]! <= 510, `${avoided_ms}`);
  assert.ok(avoided_ms[9]! > 5_000 && avoided_ms[9]! <= 15_010, `${avoided_ms}`);
});

test("endpoints that are passed over take turns, once a second, after those that failed", () => {
  let now_ms = 0;
  const order = new EndpointOrder(3, () => now_ms);
  const answering = (isDead: (index: number) => boolean): number => {
    for (const index of order.candidates()) {
      if (!isDead(index)) {
        order.succeeded(index);
        return index;
      }
      order.failed(index);
    }
    return -1;
  };
  /** Who answers to one that asks every so often and believes nobody. */
  const seek = (count: number, each_ms: number, isDead = (_index: number) => false): number[] => {
    return Array.from({ length: count }, () => {
      now_ms += each_ms;
      const index = answering(isDead);
      order.passOver();
      return index;
    });
  };
  assert.deepEqual(seek(7, 1000), [0, 1, 2, 0, 1, 2, 0]);
  assert.deepEqual(seek(8, 250), [1, 1, 1, 1, 2, 2, 2, 2]);
  seek(30, 1000, (index) => index === 0);
  assert.equal(order.candidates()[0], 0, "the one that was dead is asked first");
  assert.equal(answering(() => false), 0);
  assert.equal(order.candidates()[0], 0, "what answers and is believed is kept");
});
