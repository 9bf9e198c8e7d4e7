import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { resolve } from "node:path";
import { Writable } from "node:stream";
import { Output } from "../../src/cli/output.ts";
import { hasCode } from "../../src/errors.ts";

type Done = (error?: Error | null) => void;

function system(code: string): Error {
  return Object.assign(new Error(`${code}: as the system says it`), { code });
}

function output(write: (text: string, done: Done) => void) {
  const abort = new AbortController();
  const stream = new Writable({
    decodeStrings: false,
    write: (text, _encoding, done) => write(text, done),
  });
  return { output: new Output(stream, abort), abort, stream };
}

describe("standard output", () => {
  test("all is written before it is said to be", async () => {
    const texts: string[] = [];
    const one = output((text, done) => {
      setImmediate(() => {
        texts.push(text);
        done();
      });
    });
    await one.output.written();
    for (const text of ["a", "", "b", ""]) one.output.write(text);
    await one.output.written();
    assert.deepEqual([texts, one.abort.signal.aborted], [["a", "b"], false]);
  });

  const failing: readonly [name: string, write: (text: string, done: Done) => void][] = [
    ["told later", (_text, done) => setImmediate(() => done(system("ENOSPC")))],
    ["thrown", () => {
      throw system("ENOSPC");
    }],
  ];
  for (const [name, write] of failing) {
    test(`a failure, ${name}: watching ends, and it is told`, async () => {
      const one = output(write);
      one.output.write("a");
      one.output.write("b");
      await assert.rejects(one.output.written(), (error: unknown) => {
        assert.ok(hasCode(error, "unavailable"));
        assert.match(error.message, /^cannot write to standard output: ENOSPC/);
        return true;
      });
      assert.ok(one.abort.signal.aborted);
    });
  }

  test("a failure of what another wrote to it", async () => {
    const one = output((_text, done) => done());
    one.stream.emit("error", system("EIO"));
    await assert.rejects(one.output.written(), /EIO/);
  });

  test("a reader that has gone is no failure", async () => {
    const one = output((_text, done) => done(system("EPIPE")));
    one.output.write("a");
    await one.output.written();
    one.output.write("b");
    await one.output.written();
    assert.ok(one.abort.signal.aborted);
  });

  test("one who interrupts does not wait for a reader that is stuck", async () => {
    const one = output(() => {});
    one.output.write("a");
    const written = one.output.written();
    one.abort.abort();
    await written;
  });

  test("the whole program, on a disk that is full", () => {
    const full = openSync("/dev/full", "w");
    try {
      const args = ["run", "-A", resolve("src/main.ts"), "version"];
      const { status, stderr } = spawnSync(process.execPath, args, {
        stdio: ["ignore", full, "pipe"],
        encoding: "utf8",
      });
      assert.equal(status, 1);
      assert.match(stderr, /^selvage: cannot write to standard output: .*[Nn]o space left.*\n$/);
    } finally {
      closeSync(full);
    }
  });
});
