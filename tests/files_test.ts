/** How errors of files read, and what they keep to themselves. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { lstatSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { placeSocket } from "../src/api/socket_path.ts";
import { fileReason } from "../src/errors.ts";
import { readPasswordFile } from "../src/etcd/password_file.ts";
import { probeWritable, readFileBounded, writeFileAtomic } from "../src/files.ts";

async function inDirectory(run: (directory: string) => Promise<void> | void): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "selvage-files-"));
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("an error of a file", () => {
  test("names the file once, the reason, and the system's code", () =>
    inDirectory(async (directory) => {
      const none = join(directory, "none");
      const file = join(directory, "file");
      writeFileSync(file, "");
      const under = join(file, "under");
      const rows: [run: () => void, message: string][] = [
        [() => readFileBounded(none), `cannot read ${none}: no such file (ENOENT)`],
        [() => readFileBounded(under), `cannot read ${under}: not a directory (ENOTDIR)`],
        [() => readFileBounded(directory), `cannot read ${directory}: not a regular file`],
        [
          () => writeFileAtomic(join(under, "x"), "", { mode: 0o600 }),
          `cannot write ${join(under, "x")}: not a directory (ENOTDIR)`,
        ],
      ];
      for (const [run, message] of rows) assert.throws(run, { message });
      await assert.rejects(placeSocket(under, () => Promise.resolve()), (error: Error) => {
        assert.equal(error.message.split(file).length, 2, error.message);
        assert.match(error.message, /\(E[A-Z]+\)$/);
        return true;
      });
    }));

  test("keeps a text that is not the runtime's", () => {
    const withCode = (text: string, code: string) => Object.assign(new Error(text), { code });
    const rows: [error: unknown, text: string][] = [
      [
        withCode("EACCES: permission denied, rename '/a' -> '/b'", "EACCES"),
        "permission denied (EACCES)",
      ],
      [withCode("EIO: i/o error, fsync", "EIO"), "i/o error (EIO)"],
      [withCode("EIO: i/o error", "EIO"), "i/o error (EIO)"],
      [
        withCode("connect ECONNREFUSED 127.0.0.1:1", "ECONNREFUSED"),
        "connect ECONNREFUSED 127.0.0.1:1",
      ],
      [new Error("EIO: words of ours"), "EIO: words of ours"],
      ["text", "text"],
    ];
    for (const [error, text] of rows) assert.equal(fileReason(error), text);
  });
});

test("a password file that holds another secret is refused, and not quoted", () =>
  inDirectory((directory) => {
    const path = join(directory, "password");
    writeFileSync(path, "selvage of the 1st\n");
    assert.equal(readPasswordFile(path), "selvage of the 1st");
    for (const text of ["selvage1.c2VjcmV0", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0"]) {
      writeFileSync(path, text);
      assert.throws(() => readPasswordFile(path), (error: Error) => {
        assert.match(error.message, /: it holds .*, not a password$/);
        assert.doesNotMatch(error.message, /c2VjcmV0|BEGIN/);
        return true;
      });
    }
  }));

test("a FIFO, or a link to one, is not replaced by a file", () =>
  inDirectory((directory) => {
    const [fifo, link] = [join(directory, "fifo"), join(directory, "link")];
    assert.equal(spawnSync("mkfifo", [fifo]).status, 0);
    symlinkSync(fifo, link);
    for (const path of [fifo, link]) {
      const message = `cannot write ${path}: not a regular file`;
      assert.throws(() => writeFileAtomic(path, "x", { mode: 0o600 }), { message });
      assert.throws(() => probeWritable(path), { message });
    }
    assert.deepEqual(readdirSync(directory).sort(), ["fifo", "link"]);
    assert.ok(lstatSync(fifo).isFIFO() && lstatSync(link).isSymbolicLink());
  }));
