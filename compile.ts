/**
 * Builds Selvage: the packet loops (AssemblyScript to WebAssembly), then one executable for each
 * target (Bun).
 *
 *     deno run -A compile.ts [--wasm-only | --no-wasm] [--out-dir DIR]
 *       [--target linux-arm64-musl]...
 *
 * The host's executable is `dist/selvage`, a target's is `dist/selvage-TARGET`. `--no-wasm` takes
 * the packet loops that were built before. `npm_config_registry` names a mirror of npm.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import asc from "assemblyscript/asc";
import { buildEnvironment, requireTarget, runtimeFor, TARGETS } from "./runtimes.ts";
import { MEMORY_PAGES } from "./wasm/layout.ts";

/** That of the machine that builds: `bunPath`. */
const HOST_TARGET = "linux-x64";
const RUNTIME_DIR = "node_modules/.selvage";
const NPM_REGISTRY = "https://registry.npmjs.org";
const WASM_DIR = "wasm/build";
/** The worker of the packet loops is started by URL, so it is an entry point of its own. */
const ENTRY_POINTS = ["src/main.ts", "src/dataplane/worker.ts"];

/**
 * Variables by which Bun's runtime would let the environment turn the executable into something
 * else: a package manager (BUN_BE_BUN), a host of foreign code (BUN_OPTIONS) or of a debugger
 * (BUN_INSPECT and the names that begin with it). A daemon that runs as root offers none of these,
 * so their names are blanked out in the runtime.
 */
const BLANKED_VARIABLES = ["BUN_BE_BUN", "BUN_OPTIONS", "BUN_INSPECT"];

function fail(message: string): never {
  console.error(`compile: ${message}`);
  process.exit(1);
}

/** Compiles `wasm/` and writes the module, and its base64 text, which both runtimes can import. */
async function buildWasm(): Promise<void> {
  mkdirSync(WASM_DIR, { recursive: true });
  const pages = String(MEMORY_PAGES);
  const result = await asc.main([
    "wasm/main.ts",
    "--outFile",
    `${WASM_DIR}/loops.wasm`,
    "-O3",
    "--noAssert",
    "--runtime",
    "stub",
    "--importMemory",
    "--sharedMemory",
    "--initialMemory",
    pages,
    "--maximumMemory",
    pages,
    ...["threads", "simd", "bulk-memory"].flatMap((feature) => ["--enable", feature]),
  ], { stdout: process.stdout, stderr: process.stderr });
  if (result.error !== null) fail(`AssemblyScript: ${result.error.message}`);
  const module = readFileSync(`${WASM_DIR}/loops.wasm`);
  writeFileSync(`${WASM_DIR}/loops.b64`, module.toString("base64"));
  console.error(`${WASM_DIR}/loops.wasm  ${module.length} bytes`);
}

/** The Bun that builds, from its npm package. */
function bunPath(): string {
  if (process.platform !== "linux" || process.arch !== "x64") {
    fail("building needs Linux on x64; for other machines build there with --target");
  }
  const path = "node_modules/@oven/bun-linux-x64/bin/bun";
  if (!existsSync(path)) fail(`no ${path}: run "deno install" first`);
  return path;
}

function blankVariables(path: string): void {
  const bytes = readFileSync(path);
  for (const name of BLANKED_VARIABLES) {
    let found = 0;
    for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
      bytes.fill(1, at, at + name.length);
      found++;
    }
    if (found === 0) fail(`${path} does not contain ${name}: has Bun changed?`);
  }
  writeFileSync(path, bytes);
}

/** Returns the path of the runtime in a target's executable. Fails if it is not as expected. */
async function runtimePath(target: string): Promise<string> {
  if (target === HOST_TARGET) return bunPath();
  const registry = process.env["npm_config_registry"] || NPM_REGISTRY;
  try {
    return await runtimeFor(target, RUNTIME_DIR, registry);
  } catch (error) {
    fail(`no runtime for ${target}: ${error instanceof Error ? error.message : error}`);
  }
}

/** Fails, with nothing left, if the executable is for another machine. */
function checkTarget(path: string, target: string): void {
  try {
    requireTarget(path, target);
  } catch (error) {
    rmSync(path);
    fail(`${error instanceof Error ? error.message : error}`);
  }
}

/** Builds one executable; `target` null is this host. */
async function buildExecutable(target: string | null, directory: string): Promise<void> {
  const output = target === null ? `${directory}/selvage` : `${directory}/selvage-${target}`;
  const partial = `${output}.partial`;
  mkdirSync(directory, { recursive: true });
  const args = [
    "build",
    "--compile",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    "--minify-syntax",
    "--minify-whitespace",
    // What is not parsed at the start, and after it, leaves no trees and no text in memory.
    "--bytecode",
    "--format=esm",
    ...(target === null ? [] : [
      `--target=bun-${target}`,
      // Else Bun would fetch one, from wherever the environment says.
      `--compile-executable-path=${await runtimePath(target)}`,
    ]),
    ...ENTRY_POINTS,
    `--outfile=${partial}`,
  ];
  const run = spawnSync(bunPath(), args, { encoding: "utf8", env: buildEnvironment() });
  if (run.status !== 0) fail(`bun build failed for ${output}:\n${run.stdout}${run.stderr}`);
  checkTarget(partial, target ?? HOST_TARGET);
  blankVariables(partial);
  // A running executable cannot be written to, but its name can be given to another.
  renameSync(partial, output);
  console.error(`${output}  ${(readFileSync(output).length / 1e6).toFixed(0)} MB`);
}

const { values } = parseArgs({
  options: {
    "wasm-only": { type: "boolean", default: false },
    "no-wasm": { type: "boolean", default: false },
    "out-dir": { type: "string", default: "dist" },
    target: { type: "string", multiple: true, default: [] },
  },
});
const unknown = values.target.filter((target) => !TARGETS.includes(target));
if (unknown.length > 0) fail(`unknown target ${unknown.join(", ")}; known: ${TARGETS.join(", ")}`);

if (!values["no-wasm"]) await buildWasm();
if (!values["wasm-only"]) {
  const targets = values.target.length > 0 ? values.target : [null];
  for (const target of targets) await buildExecutable(target, values["out-dir"]);
}
