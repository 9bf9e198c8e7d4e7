/** The client in an executable that is compiled as ours is. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { EtcdOptions } from "../../../src/etcd/client/open_etcd.ts";
import { withEtcd } from "../lab.ts";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
const BUN = join(ROOT, "node_modules/@oven/bun-linux-x64/bin/bun");
const KEY_COUNT = 5_000;
/** What loading the libraries, a connection, and a watch may add to a process. */
const ADDED_MAX_BYTES = 40 * 1024 * 1024;

interface Report {
  readonly listed: number;
  readonly seen: readonly string[];
  readonly memory: Readonly<
    Record<"start" | "loaded" | "connected" | "listed" | "watched", number>
  >;
}

function compile(directory: string): string {
  const output = join(directory, "client");
  const flags = ["--minify-syntax", "--minify-whitespace", "--bytecode", "--format=esm"];
  const child = join(ROOT, "tests/etcd/client/executable_child.ts");
  const args = ["build", "--compile", ...flags, child, `--outfile=${output}`];
  const run = spawnSync(BUN, args, { encoding: "utf8", cwd: ROOT });
  assert.equal(run.status, 0, run.stderr);
  return output;
}

/** Runs it to its end. */
async function report(executable: string, options: EtcdOptions): Promise<Report> {
  const child = spawn(executable, [JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 30_000,
  });
  let text = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (part: string) => text += part);
  const [status] = await once(child, "close");
  assert.equal(status, 0);
  return JSON.parse(text) as Report;
}

test("the compiled client puts, lists and watches, plain and with TLS, and ends", async () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-client-"));
  try {
    const executable = compile(directory);
    const tls = { server: { addresses: ["127.0.0.1"] }, demandsClientCertificate: true };
    await withEtcd({ tls }, async (lab) => {
      const ours = await lab.authority!.issue({ name: "client" });
      const { seen } = await report(executable, { ...lab.clientOptions, ...ours });
      assert.deepEqual(seen, ["/exe/a", "/exe/b"]);
    });
    await withEtcd({}, async (lab) => {
      const value = "x".repeat(200);
      for (let i = 0; i < KEY_COUNT; i += 100) {
        await Promise.all(Array.from({ length: 100 }, (_, j) => lab.put(`/many/${i + j}`, value)));
      }
      const { listed, memory } = await report(executable, lab.clientOptions);
      assert.equal(listed, KEY_COUNT + 1);
      const added = memory.watched - memory.start;
      assert.ok(
        added < ADDED_MAX_BYTES,
        `${added} bytes more than before: ${JSON.stringify(memory)}`,
      );
      if (process.env["SELVAGE_FIGURES"] !== undefined) console.log(memory);
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
