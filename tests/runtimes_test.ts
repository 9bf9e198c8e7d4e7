/** The runtimes that executables for other machines are made of, and who could exchange them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { BUN_VERSION, requireTarget, runtimeFor, TARGETS } from "../runtimes.ts";

const BUN = "node_modules/@oven/bun-linux-x64/bin/bun";

let directory = "";
before(() => {
  directory = mkdtempSync(join(tmpdir(), "selvage-runtimes-"));
});
after(() => rmSync(directory, { recursive: true, force: true }));

/** A server that answers everything with the same bytes, and counts. */
async function withServer(
  run: (url: string, requests: string[]) => Promise<void>,
): Promise<void> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url ?? "");
    response.end("not what was asked for");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await run(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

/** Builds for a target, with these variables; resolves with the status and what it said. */
async function compile(target: string, env: Record<string, string>) {
  const args = ["run", "-A", "compile.ts", "--no-wasm", `--out-dir=${directory}`];
  const child = spawn(process.execPath, [...args, `--target=${target}`], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => text += part);
  const [status] = await once(child, "close") as [number];
  return { status, text };
}

describe("runtimes", () => {
  test("are of the version that builds, and hold to the hashes that are written down", () => {
    const manifest = readFileSync("deno.json", "utf8");
    assert.ok(manifest.includes(`npm:@oven/bun-linux-x64@${BUN_VERSION}"`));
    const locked = /"@oven\/bun-linux-x64@[^"]*": \{\s*"integrity": "sha512-([^"]+)"/
      .exec(readFileSync("deno.lock", "utf8"));
    assert.ok(readFileSync("runtimes.ts", "utf8").includes(locked![1]!));
  });

  test("with a wrong hash are refused, whether fetched or kept", () =>
    withServer(async (url, requests) => {
      const kept = join(directory, "kept");
      for (const target of TARGETS.filter((one) => one !== "linux-x64")) {
        await assert.rejects(runtimeFor(target, kept, url), /its SHA-512 is .*, not /);
      }
      assert.equal(requests.length, TARGETS.length - 1);
      assert.ok(!existsSync(kept), "nothing of it is kept");
      mkdirSync(kept);
      const archive = join(kept, `bun-linux-aarch64-${BUN_VERSION}.tgz`);
      writeFileSync(archive, "exchanged");
      await assert.rejects(runtimeFor("linux-arm64", kept, url), /tgz is not bun-linux-aarch64/);
    }));

  test("for another processor or C library are told apart", () => {
    requireTarget(BUN, "linux-x64");
    assert.throws(() => requireTarget(BUN, "linux-arm64"), /for ELF machine 62; .* is 183/);
    assert.throws(() => requireTarget(BUN, "linux-x64-musl"), /does not use .*ld-musl/);
    assert.throws(() => requireTarget("deno.json", "linux-x64"), /no ELF executable/);
  });
});

describe("a build for another machine", () => {
  test("takes its runtime from nowhere that the environment names", () =>
    withServer(async (url, requests) => {
      const { status, text } = await compile("linux-arm64", {
        BUN_COMPILE_TARGET_TARBALL_URL: `${url}/foreign.tgz`,
        BUN_INSTALL_CACHE_DIR: join(directory, "cache"),
        BUN_CONFIG_REGISTRY: url,
      });
      assert.equal(status, 0, text);
      assert.deepEqual(requests, []);
      requireTarget(join(directory, "selvage-linux-arm64"), "linux-arm64");
    }));
});
