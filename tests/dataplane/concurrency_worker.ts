/**
 * Worker of `concurrency_test.ts`: runs a real packet loop over packets it makes up, and checks
 * each as it comes out. See there for what addresses mean.
 */
import { parentPort, workerData } from "node:worker_threads";
import {
  EGRESS_WORK_OFFSET,
  PEER_ENDPOINT_OFFSET,
  PEER_SIZE,
  PEERS4_OFFSET,
  SEND_INFO_OFFSET,
  SEND_INFO_SIZE,
} from "../../wasm/layout.ts";
import { instantiateLoops } from "../../src/dataplane/loops.ts";
import { viewMemory } from "../../src/dataplane/memory.ts";
import { packet } from "../wasm/packets.ts";
import { endpointPort, ICMP_FD, isRightEndpoint, isVolatile } from "./concurrency_plan.ts";
import { Random } from "./random.ts";

export interface Findings {
  readonly wrong: readonly string[];
  readonly checkedCount: number;
}

const { memory, role, destinations, sources, seed } = workerData as {
  memory: WebAssembly.Memory;
  role: "egress" | "ingress";
  destinations: readonly number[];
  sources: readonly number[];
  seed: number;
};
const { bytes } = viewMemory(memory);
const view = new DataView(bytes.buffer);
const random = new Random(seed);
const template = packet(role === "ingress" ? { to: "10.0.1.2" } : {});
const wrong: string[] = [];
let checkedCount = 0;
/** Packets to peers that are never removed, on their way in this batch. */
let steadyInBatch = 0;

function expect(isRight: boolean, what: () => string): void {
  checkedCount++;
  if (!isRight && wrong.length < 10) wrong.push(what());
}

function read(_fd: number, offset: number): number {
  const destination = random.pick(destinations);
  bytes.set(template, offset);
  view.setUint32(offset + 16, destination);
  if (!isVolatile(destination)) steadyInBatch++;
  return template.length;
}

/** The slot that message i is counted for must still be its peer's, or nobody's. */
function checkSlot(index: number, destination: number): void {
  const slot = view.getUint32(EGRESS_WORK_OFFSET + SEND_INFO_OFFSET + index * SEND_INFO_SIZE, true);
  const endpoint = PEERS4_OFFSET + slot * PEER_SIZE + PEER_ENDPOINT_OFFSET;
  const address = view.getUint32(endpoint + 4);
  const isRight = address === 0 || isRightEndpoint(destination, address);
  expect(isRight, () => `slot ${slot} was given away while in use`);
}

function sendmmsg(fd: number, vector_offset: number, count: number): number {
  // An ICMP error about a packet that nobody takes just now.
  if (fd === ICMP_FD) return count;
  for (let i = 0; i < count; i++) {
    const message = vector_offset + i * 64;
    const name = Number(view.getBigUint64(message, true));
    const data = Number(view.getBigUint64(Number(view.getBigUint64(message + 16, true)), true));
    const destination = view.getUint32(data + 16);
    const [address, port] = [view.getUint32(name + 4), view.getUint16(name + 2)];
    const isRight = isRightEndpoint(destination, address) && port === endpointPort(address);
    expect(isRight, () => `${destination.toString(16)} to ${address.toString(16)}:${port}`);
    checkSlot(i, destination);
    if (!isVolatile(destination)) steadyInBatch--;
  }
  expect(steadyInBatch === 0, () => `${steadyInBatch} packets to steady peers were dropped`);
  steadyInBatch = 0;
  return count;
}

function recvmmsg(_fd: number, vector_offset: number, count: number): number {
  expect(steadyInBatch === 0, () => `${steadyInBatch} packets of steady peers were dropped`);
  steadyInBatch = 0;
  for (let i = 0; i < count; i++) {
    const message = vector_offset + i * 64;
    const name = Number(view.getBigUint64(message, true));
    const data = Number(view.getBigUint64(Number(view.getBigUint64(message + 16, true)), true));
    bytes.set(template, data);
    const source = random.pick(sources);
    // What comes out of the loop is this packet: it tells from whom it came.
    view.setUint32(data + 12, source);
    view.setUint32(name + 4, source);
    view.setUint32(message + 56, template.length, true);
    if (!isVolatile(source)) steadyInBatch++;
  }
  return count;
}

function write(_fd: number, offset: number, size_bytes: number): number {
  const source = view.getUint32(offset + 12);
  expect(source !== 0xdeadbeef, () => "a stranger's packet was let in");
  if (!isVolatile(source)) steadyInBatch--;
  return size_bytes;
}

/** Only a TUN with offloads is written to so. */
function writev(): number {
  throw new Error("writev");
}

/** The same of a send that says that a packet is too long. */
function path_mtu(): number {
  throw new Error("path_mtu");
}

const io = { read, write, writev, sendmmsg, recvmmsg, poll: () => 0, path_mtu, now_ms: Date.now };
const loops = await instantiateLoops(memory, io);
if (role === "egress") loops.runEgress(0, 0);
else loops.runIngress(0, 0);
const findings: Findings = { wrong, checkedCount };
parentPort!.postMessage(findings);
