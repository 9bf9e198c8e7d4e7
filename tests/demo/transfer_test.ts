import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { sendTransfer, serveTransfers } from "../../src/demo/transfer.ts";

test("both ends hash the same bytes, odd sizes too", async () => {
  const { server, port } = await serveTransfers();
  try {
    for (const size_bytes of [0, 1, 65_535, 65_537, 1_000_003]) {
      const result = await sendTransfer("127.0.0.1", port, size_bytes, 10_000);
      assert.equal(result.size_bytes, size_bytes);
      assert.match(result.sentSha256, /^[0-9a-f]{64}$/);
      assert.equal(result.receivedSha256, result.sentSha256);
    }
  } finally {
    server.close();
  }
});

test("a receiver that got other bytes is found out", async () => {
  const liar = createServer({ allowHalfOpen: true }, (socket) => {
    socket.resume();
    socket.on("end", () => socket.end(JSON.stringify({ size_bytes: 3, sha256: "0".repeat(64) })));
  });
  await new Promise<void>((resolve) => liar.listen(0, "127.0.0.1", () => resolve()));
  try {
    const { port } = liar.address() as { port: number };
    const result = await sendTransfer("127.0.0.1", port, 3, 10_000);
    assert.notEqual(result.receivedSha256, result.sentSha256);
  } finally {
    liar.close();
  }
});

test("a receiver that never answers is an error after the time given", async () => {
  const silent = createServer({ allowHalfOpen: true }, (socket) => socket.on("error", () => {}));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", () => resolve()));
  try {
    const { port } = silent.address() as { port: number };
    await assert.rejects(sendTransfer("127.0.0.1", port, 3, 50), /not done within/);
  } finally {
    silent.close();
  }
});
