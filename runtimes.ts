/**
 * The runtimes that executables for other machines are made of: Bun's npm packages. Each is fetched
 * once and held to the hash that is written here, whatever registry or mirror it comes from.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";

/** As in `deno.json`, where the host's own runtime is from. */
export const BUN_VERSION = "1.4.5";

/** `e_machine` of `elf.h`. */
const EM_X86_64 = 62;
const EM_AARCH64 = 183;
const ELF_MAGIC = 0x7f454c46;
const ELF_MACHINE_OFFSET = 18;
/** The interpreter's path stands near the start. */
const ELF_HEAD_BYTES = 8192;

interface Runtime {
  /** Of npm. */
  readonly packageName: string;
  /** npm's `dist.integrity` of the package: SHA-512 of the archive, in base64. */
  readonly sha512: string;
  readonly machine: number;
  /** The C library's loader, which the executable names. */
  readonly loader: string;
}

const [X64, ARM64] = [EM_X86_64, EM_AARCH64];
const RUNTIMES: Readonly<Record<string, Runtime>> = {
  "linux-x64": {
    packageName: "bun-linux-x64",
    sha512:
      "IWX9BELoGHAUtMonkeSaNaZwXzRk+oDw6Mk+HBFXd3KHYIBNBsIGRupMZPcgNoDbJpLu6gAJjIoIVPZtt1aJ1g==",
    machine: X64,
    loader: "/lib64/ld-linux-x86-64.so.2",
  },
  "linux-arm64": {
    packageName: "bun-linux-aarch64",
    sha512:
      "4BXmsSKnjOrlGWqZV4x/oWa7AVoR+B6lCXddMzOAXBIm3t50eslg9wb66gmtW1AamEQ1l1CDvmmruysEhqOWMg==",
    machine: ARM64,
    loader: "/lib/ld-linux-aarch64.so.1",
  },
  "linux-x64-musl": {
    packageName: "bun-linux-x64-musl",
    sha512:
      "10QoW/YfTgnURaGEaHpJCiXjLI2e5iTtfVDaA5JKcyUzaa1cq6cVUY9/Uq5XkYzvtRjHLRe9Oj/lTDIQcxy8HQ==",
    machine: X64,
    loader: "/lib/ld-musl-x86_64.so.1",
  },
  "linux-arm64-musl": {
    packageName: "bun-linux-aarch64-musl",
    sha512:
      "XCNc+WvvMAdNNb+OWTogpy+N9wm62fkVeEVLb6how0RZhW5LPi6c7BlkeVCuWps7XjEl2saFpHFa20/1E+PAHg==",
    machine: ARM64,
    loader: "/lib/ld-musl-aarch64.so.1",
  },
};

export const TARGETS: readonly string[] = Object.keys(RUNTIMES);

/** Throws unless the archive is the one that is meant. */
function requireHash(archive: Uint8Array, { sha512, packageName }: Runtime, where: string): void {
  const found = createHash("sha512").update(archive).digest("base64");
  if (found === sha512) return;
  throw new Error(
    `${where} is not ${packageName} ${BUN_VERSION}: its SHA-512 is ${found}, not ${sha512}`,
  );
}

/** Such as `package/bin/bun` of a tar archive (`pax(1)`, ustar); the bytes are borrowed. */
function fileOfTar(tar: Uint8Array, name: string): Uint8Array {
  const BLOCK_BYTES = 512;
  const text = (start: number, length: number) =>
    new TextDecoder().decode(tar.subarray(start, start + length)).split("\0")[0]!;
  for (let at = 0; at + BLOCK_BYTES <= tar.length;) {
    const size_bytes = parseInt(text(at + 124, 12), 8) || 0;
    const start = at + BLOCK_BYTES;
    if (text(at, 100) === name) return tar.subarray(start, start + size_bytes);
    at = start + Math.ceil(size_bytes / BLOCK_BYTES) * BLOCK_BYTES;
  }
  throw new Error(`the archive has no ${name}`);
}

/**
 * The path of the target's runtime, below `directory`. It is fetched if it is not there; its
 * archive is held to the hash each time. Rejects if that differs. `registry` is npm's or a mirror.
 */
export async function runtimeFor(
  target: string,
  directory: string,
  registry: string,
): Promise<string> {
  const runtime = RUNTIMES[target]!;
  const { packageName } = runtime;
  const file = `${packageName}-${BUN_VERSION}`;
  const archivePath = join(directory, `${file}.tgz`);
  if (!existsSync(archivePath)) {
    const url = `${registry.replace(/\/$/, "")}/@oven/${packageName}/-/${file}.tgz`;
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url}: HTTP status ${response.status}`);
    const archive = new Uint8Array(await response.arrayBuffer());
    requireHash(archive, runtime, url);
    mkdirSync(dirname(archivePath), { recursive: true });
    writeFileSync(`${archivePath}.partial`, archive);
    renameSync(`${archivePath}.partial`, archivePath);
  }
  const archive = readFileSync(archivePath);
  requireHash(archive, runtime, archivePath);
  const path = join(directory, file);
  writeFileSync(path, fileOfTar(gunzipSync(archive), "package/bin/bun"), { mode: 0o755 });
  return path;
}

/** Throws unless the executable is for the target's processor and C library. */
export function requireTarget(path: string, target: string): void {
  const { machine, loader } = RUNTIMES[target]!;
  const head = readFileSync(path).subarray(0, ELF_HEAD_BYTES);
  if (head.length < ELF_MACHINE_OFFSET + 2 || head.readUInt32BE(0) !== ELF_MAGIC) {
    throw new Error(`${path} is no ELF executable`);
  }
  const found = head.readUInt16LE(ELF_MACHINE_OFFSET);
  if (found !== machine) {
    throw new Error(`${path} is for ELF machine ${found}; ${target} is ${machine}`);
  }
  if (!head.includes(`${loader}\0`)) throw new Error(`${path} does not use ${loader}`);
}

/**
 * The environment of the programs that build: none of the variables by which Bun would take its
 * runtime, its cache, its options or its configuration from elsewhere.
 */
export function buildEnvironment(): Record<string, string> {
  const kept = ["PATH", "HOME", "TMPDIR"].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(kept);
}
