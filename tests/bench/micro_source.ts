/**
 * The micro-benchmarks' own WebAssembly: loops in AssemblyScript around functions of `wasm/`, so
 * that no call from JavaScript is in what is measured. Each is compiled with the packet loops' own
 * options and stands for itself: one that does not compile is left out, and said so.
 */
import asc from "assemblyscript/asc";
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { MEMORY_PAGES } from "../../wasm/layout.ts";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const ENTRY = "tests/bench/micro.ts";

/**
 * `run(count, range)` looks up `count` addresses, of the subnets 10.0.0.0/24 and so on, `range` of
 * them, in an order no cache can guess (xorshift), and gives a sum that depends on every result.
 * `countMisses(range)` says how many of these subnets lead nowhere.
 */
export const LOOKUP_SOURCE = `
import { lookupPeer } from "../../wasm/fib";

export function run(count: i32, range: i32): i32 {
  let state: u32 = 0x9e3779b9;
  let sum: i32 = 0;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    const subnet = <u32> ((<u64> state * <u64> range) >> 32);
    sum += lookupPeer(0x0a000000 + (subnet << 8) + (state & 0xff));
  }
  return sum;
}

export function countMisses(range: i32): i32 {
  let misses = 0;
  for (let i = 0; i < range; i++) misses += i32(lookupPeer(0x0a000000 + (i << 8)) < 0);
  return misses;
}
`;

/** The same of IPv6: the subnets are fd00::/64 and so on, and the host's part is made up too. */
export const LOOKUP6_SOURCE = `
import { DESTINATIONS6_OFFSET } from "../../wasm/layout";
import { lookup } from "../../wasm/prefix_table";

const NETWORK: u64 = 0xfd00000000000000;

export function run(count: i32, range: i32): i32 {
  let state: u32 = 0x9e3779b9;
  let sum: i32 = 0;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    const subnet = (<u64> state * <u64> range) >> 32;
    sum += lookup(DESTINATIONS6_OFFSET, NETWORK + subnet, <u64> state * 0x9e3779b97f4a7c15);
  }
  return sum;
}

export function countMisses(range: i32): i32 {
  let misses = 0;
  for (let i = 0; i < range; i++) misses += i32(lookup(DESTINATIONS6_OFFSET, NETWORK + i, 7) < 0);
  return misses;
}
`;

/** `run(count, size)` sums the same `size` bytes, each time one of them differently. */
export const CHECKSUM_SOURCE = `
import { checksum } from "../../wasm/checksum";

const DATA = 1 << 20;

export function run(count: i32, size: i32): i32 {
  let sum: i32 = 0;
  for (let i = 0; i < count; i++) {
    store<u32>(DATA, i);
    sum += checksum(DATA, size);
  }
  return sum;
}
`;

/**
 * `run(count, payload)` cuts the same TCP packet with so many bytes of payload, `count` times, into
 * segments of 1400 bytes: headers with complete checksums, the payload left where it is. Gives a
 * sum that depends on every header; 0 if the packet cannot be cut.
 */
export const SEGMENT_SOURCE = `
import * as segment from "../../wasm/segment";
import { PACKET_SIZE_MAX, SEGMENT_HEADER_SIZE } from "../../wasm/layout";
import { load16, store16, store32 } from "../../wasm/bytes";
import { GSO_TCPV4 } from "../../wasm/wire/virtio";

const PACKET = 1 << 20;
const HEADERS = PACKET + 2 * PACKET_SIZE_MAX;
const HEADERS_SIZE = 52;
const MSS = 1400;

/** An IPv4 header and a TCP header with timestamps, and a payload of other bytes. */
function prepare(size: i32): void {
  for (let i = 0; i < size; i += 4) store<u32>(PACKET + i, i * 0x9e3779b9);
  store16(PACKET, 0x4500);
  store16(PACKET + 2, size);
  store32(PACKET + 4, 0x12344000);
  store16(PACKET + 8, 0x4006);
  store16(PACKET + 32, 0x8010);
}

export function run(count: i32, payload: i32): i32 {
  const size = HEADERS_SIZE + payload;
  prepare(size);
  let sum: i32 = 0;
  for (let i = 0; i < count; i++) {
    const segments = segment.open(PACKET, size, GSO_TCPV4, MSS);
    for (let j = 0; j < segments; j++) {
      const at = HEADERS + j * SEGMENT_HEADER_SIZE;
      segment.writeHeaders(at, j);
      sum += load16(at + 36) + segment.payloadSize(j);
    }
  }
  return sum;
}
`;

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** Compiles one of them. Throws what the compiler says. */
export async function compileMicro(source: string): Promise<Uint8Array> {
  const pages = String(MEMORY_PAGES);
  let module: Uint8Array | null = null;
  let complaint = "";
  const result = await asc.main([
    ENTRY,
    ...["--outFile", "micro.wasm", "-O3", "--noAssert", "--runtime", "stub"],
    ...["--importMemory", "--sharedMemory", "--initialMemory", pages, "--maximumMemory", pages],
    ...["threads", "simd", "bulk-memory"].flatMap((feature) => ["--enable", feature]),
  ], {
    stderr: { write: (text: string | Uint8Array) => complaint += text },
    readFile: (name: string) => name === ENTRY ? source : readOrNull(resolve(ROOT, name)),
    writeFile: (_name: string, contents: string | Uint8Array) => {
      if (typeof contents !== "string") module = contents;
    },
  });
  if (result.error !== null || module === null) {
    throw new Error(`AssemblyScript: ${complaint.trim() || result.error?.message}`);
  }
  return module;
}
