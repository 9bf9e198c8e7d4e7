import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { readLines } from "../../src/net/line_reader.ts";
import { rejectsWith } from "../store/harness.ts";

describe("a stream of lines", () => {
  const stream = (...chunks: Uint8Array<ArrayBuffer>[]) =>
    new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk);
        controller.close();
      },
    });

  async function collect(lines: AsyncIterable<string>): Promise<string[]> {
    const all: string[] = [];
    for await (const line of lines) all.push(line);
    return all;
  }

  test("is cut at line ends, wherever chunks are cut", async () => {
    const bytes = new TextEncoder().encode("één\n\ntwo\nthree\nfo");
    for (let size = 1; size <= bytes.length; size++) {
      const chunks = [];
      for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.slice(at, at + size));
      const lines = await collect(readLines(stream(...chunks), { silence_ms: 1000 }));
      assert.deepEqual(lines, ["één", "two", "three"], `chunks of ${size}`);
    }
  });

  test("is bounded in time and in length, and is cancelled", async () => {
    let isCancelled = false;
    const silent = new ReadableStream<Uint8Array>({
      cancel() {
        isCancelled = true;
      },
    });
    await rejectsWith("unavailable", collect(readLines(silent, { silence_ms: 5 })));
    assert.ok(isCancelled);
    const long = stream(new Uint8Array(101).fill(65));
    await rejectsWith("too_large", collect(readLines(long, { sizeMax_bytes: 100 })));
  });
});
