/**
 * Measures, interleaved and with medians: TCP between two containers through the udp backend,
 * against the same between their hosts with no encapsulation; and the packet loops' look-up and
 * checksum. Prints a Markdown table; with `--json FILE` it also writes every round.
 *
 *     deno task bench [--rounds N] [--size MIB] [--json FILE]
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Container } from "../../src/demo/container.ts";
import { instantiateLoops } from "../../src/dataplane/loops.ts";
import { createMemory } from "../../src/dataplane/memory.ts";
import { ForwardingTable } from "../../src/dataplane/forwarding_table.ts";
import { packetIo } from "../../ffi/packet_io.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { preparePackages } from "../packages.ts";
import { EXECUTABLE, withLab } from "../e2e/lab.ts";

const LOOKUP_COUNT = 5_000_000;
const CHECKSUM_COUNT = 1_000_000;
const CHECKSUM_BYTES = 1500;

/** One thing that is measured: higher is better. */
interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly values: number[];
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Rates of TCP transfers in Mbit/s: through the overlay, and between the hosts themselves. */
async function measureTransfers(rounds: number, size_bytes: number): Promise<Figure[]> {
  const overlay: Figure = { name: "TCP, udp backend", unit: "Mbit/s", values: [] };
  const plain: Figure = { name: "TCP, no encapsulation", unit: "Mbit/s", values: [] };
  await withLab(2, async (lab) => {
    await lab.startAll();
    const inside = await Promise.all(
      [1, 2].map((host) =>
        new Container(EXECUTABLE, lab.network(host), lab.containers[host - 1]!).ready()
      ),
    );
    const outside = await Promise.all([1, 2].map((host) => {
      const network = lab.network(host);
      const inHost = { ...network, container: network.host };
      return new Container(EXECUTABLE, inHost, network.outerAddress).ready();
    }));
    try {
      for (let round = 0; round < rounds; round++) {
        for (const [figure, [from, to]] of [[overlay, inside], [plain, outside]] as const) {
          const { duration_ms } = await from!.transfer(to!, size_bytes);
          figure.values.push(size_bytes * 8 / 1000 / duration_ms);
          console.error(
            `round ${round + 1} of ${rounds}: ${figure.name} ` +
              `${figure.values.at(-1)!.toFixed(0)} ${figure.unit}`,
          );
        }
      }
    } finally {
      await Promise.all([...inside, ...outside].map((container) => container.stop()));
    }
  });
  return [overlay, plain];
}

/** Look-ups a second over a /8 cut in /24s with this many peers, called from JavaScript. */
async function measureLookup(peerCount: number, rounds: number): Promise<Figure> {
  const shared = createMemory();
  const loops = await instantiateLoops(shared.memory, packetIo(shared.memory));
  const network = IpPrefix.parse("10.0.0.0/8");
  new ForwardingTable(shared).apply(Array.from({ length: peerCount }, (_, i) => ({
    key: String(i),
    subnet: IpPrefix.of(network.address.add(BigInt(i) << 8n), 24),
    address: IpAddress.of(4, 0xc6120000n + BigInt(i)),
    port: 8285,
  })));
  const values: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start_ms = performance.now();
    let address = 1;
    for (let i = 0; i < LOOKUP_COUNT; i++) {
      address = (Math.imul(address, 1103515245) + 12345) | 0;
      loops.lookupPeer(0x0a000000 | (address >>> 8) % (peerCount << 8));
    }
    values.push(LOOKUP_COUNT / 1000 / (performance.now() - start_ms));
  }
  return { name: `look-up, ${peerCount} peers`, unit: "million/s", values };
}

async function measureChecksum(rounds: number): Promise<Figure> {
  const shared = createMemory();
  const loops = await instantiateLoops(shared.memory, packetIo(shared.memory));
  const values: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start_ms = performance.now();
    for (let i = 0; i < CHECKSUM_COUNT; i++) loops.checksum(1 << 20, CHECKSUM_BYTES);
    values.push(CHECKSUM_COUNT * CHECKSUM_BYTES / 1e6 / (performance.now() - start_ms));
  }
  return { name: `checksum of ${CHECKSUM_BYTES} bytes`, unit: "GB/s", values };
}

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    size: { type: "string", default: "128" },
    json: { type: "string" },
  },
});
const rounds = Number(flags.rounds);
const size_bytes = Number(flags.size) * 2 ** 20;
if (!(rounds >= 1) || !(size_bytes >= 1)) throw new Error("--rounds and --size are numbers from 1");
if (!preparePackages()) process.exit(1);

const transfers = await measureTransfers(rounds, size_bytes);
const figures = [
  ...transfers,
  await measureLookup(1, rounds),
  await measureLookup(5_000, rounds),
  await measureLookup(65_536, rounds),
  await measureChecksum(rounds),
];
console.log(`| figure | median of ${rounds} | unit |\n|---|---|---|`);
for (const { name, unit, values } of figures) {
  console.log(`| ${name} | ${median(values).toPrecision(3)} | ${unit} |`);
}
const [overlay, plain] = transfers.map((figure) => median(figure.values));
console.log(`| udp backend / no encapsulation | ${(overlay! / plain!).toPrecision(2)} | ratio |`);
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(figures, null, 2)}\n`);
