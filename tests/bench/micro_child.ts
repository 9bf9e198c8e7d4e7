/**
 * Runs the compiled micro-benchmarks under the runtime that it is started with.
 *
 *     micro_child.ts ROUNDS < {"lookup": "base64", "checksum": …, "segment": …}
 *
 * Prints a JSON list of figures. A module that is missing is left out.
 */
import { readFileSync } from "node:fs";
import { createMemory, type SharedMemory } from "../../src/dataplane/memory.ts";
import { ForwardingTable } from "../../src/dataplane/forwarding_table.ts";
import type { ForwardingEntry } from "../../src/backend/backend.ts";
import { type Family, IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { Figure } from "./results.ts";

const LOOKUP_COUNT = 20_000_000;
const PEER_COUNTS = [1, 5_000, 65_536];
const CHECKSUM_COUNT = 1_000_000;
const SEGMENT_COUNT = 100_000;
const SEGMENT_PAYLOAD_BYTES = 64_000;
/** The runtimes compile a function well only when it has been called often. */
const WARM_UP_MS = 1_000;
const WARM_UP_CALLS = 1_000;
const CHECKSUM_SIZES_BYTES = [64, 1500, 9000];

interface Micro {
  run(count: number, argument: number): number;
  countMisses?(range: number): number;
}

async function instantiate(base64: string, shared: SharedMemory): Promise<Micro> {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const imports = { env: { memory: shared.memory } };
  const { instance } = await WebAssembly.instantiate(bytes, imports);
  return instance.exports as unknown as Micro;
}

/** Seconds that each of the rounds took, once the runtime has had time to compile it well. */
function time_s(rounds: number, work: (count: number) => number, count: number): number[] {
  const warmUpEnd_ms = performance.now() + WARM_UP_MS;
  while (performance.now() < warmUpEnd_ms) work(count / WARM_UP_CALLS);
  return Array.from({ length: rounds }, () => {
    const start_ms = performance.now();
    work(count);
    return (performance.now() - start_ms) / 1000;
  });
}

/** Peer i's subnet, as the look-ups' own code has them, and its outer address. */
function addressesOf(family: Family, i: number): Pick<ForwardingEntry, "subnet" | "address"> {
  const [net, step, length, outer] = family === 4
    ? [0x0a000000n, 8n, 24, 0xc6120000n] as const
    : [0xfd00n << 112n, 64n, 64, 0x20010db8n << 96n] as const;
  const number = BigInt(i);
  return {
    subnet: IpPrefix.of(IpAddress.of(family, net + (number << step)), length),
    address: IpAddress.of(family, outer + number),
  };
}

async function measureLookup(
  base64: string,
  family: Family,
  peerCount: number,
  rounds: number,
): Promise<Figure> {
  const shared = createMemory();
  const micro = await instantiate(base64, shared);
  const skipped = new ForwardingTable(shared, family).apply(
    Array.from({ length: peerCount }, (_, i) => ({
      key: String(i),
      ...addressesOf(family, i),
      port: 8285,
      vtepMac: null,
    })),
  );
  if (skipped.length > 0) throw new Error(`${skipped.length} peers found no place in the table`);
  const misses = micro.countMisses!(peerCount);
  if (misses > 0) throw new Error(`${misses} of ${peerCount} look-ups found no peer`);
  const times_s = time_s(rounds, (count) => micro.run(count, peerCount), LOOKUP_COUNT);
  const peers = `${peerCount.toLocaleString("en")} peer${peerCount === 1 ? "" : "s"}`;
  return {
    title: `look-up${family === 4 ? "" : ", IPv6"}, ${peers}`,
    unit: "million/s",
    values: times_s.map((one_s) => LOOKUP_COUNT / 1e6 / one_s),
  };
}

async function measureChecksum(base64: string, size_bytes: number, rounds: number) {
  const micro = await instantiate(base64, createMemory());
  const times_s = time_s(rounds, (count) => micro.run(count, size_bytes), CHECKSUM_COUNT);
  return {
    title: `checksum of ${size_bytes} bytes`,
    unit: "GB/s",
    values: times_s.map((one_s) => CHECKSUM_COUNT * size_bytes / 1e9 / one_s),
  };
}

/** Payload that one core cuts, 64 kB a packet, which is about what a read of the TUN brings. */
async function measureSegment(base64: string, rounds: number): Promise<Figure> {
  const micro = await instantiate(base64, createMemory());
  if (micro.run(1, SEGMENT_PAYLOAD_BYTES) === 0) throw new Error("the packet was not cut");
  const run = (count: number) => micro.run(count, SEGMENT_PAYLOAD_BYTES);
  const bits = SEGMENT_COUNT * SEGMENT_PAYLOAD_BYTES * 8;
  return {
    title: "segmentation, TCP at 1400 bytes",
    unit: "Gbit/s",
    values: time_s(rounds, run, SEGMENT_COUNT).map((one_s) => bits / 1e9 / one_s),
  };
}

const rounds = Number(process.argv[2]);
const modules = JSON.parse(readFileSync(0, "utf8")) as Partial<
  Record<"lookup" | "lookup6" | "checksum" | "segment", string>
>;
const figures: Figure[] = [];
for (const [family, module] of [[4, modules.lookup], [6, modules.lookup6]] as const) {
  if (module === undefined) continue;
  for (const count of PEER_COUNTS) {
    figures.push(await measureLookup(module, family, count, rounds));
  }
}
if (modules.checksum !== undefined) {
  for (const size_bytes of CHECKSUM_SIZES_BYTES) {
    figures.push(await measureChecksum(modules.checksum, size_bytes, rounds));
  }
}
if (modules.segment !== undefined) figures.push(await measureSegment(modules.segment, rounds));
console.log(JSON.stringify(figures));
