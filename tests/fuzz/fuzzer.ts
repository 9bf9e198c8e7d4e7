/**
 * One loop, the compiled one, over the in-memory twin of its system calls, fed with batches of
 * cases and compared with the naive twin after each.
 */
import assert from "node:assert/strict";
import { DROP_REASONS, readCounters, type Role } from "../../src/dataplane/counters.ts";
import type { Offload } from "../../src/dataplane/offloads.ts";
import { Random } from "../dataplane/random.ts";
import { packetsOfWrite, VIRTIO_BYTES } from "../wasm/flows.ts";
import { naiveChecksum } from "../wasm/packets.ts";
import { type Bench, bench, type Datagram, POLLIN, POLLOUT } from "../wasm/scripted_io.ts";
import { Cases } from "./cases.ts";
import { guard } from "./guard.ts";
import { type FuzzNetwork, sent } from "./network.ts";
import { egressOutcome, type Expected, ingressOutcome, isSame, isWhole, isWhole6 } from "./twin.ts";

/** Cases of one run of a loop: some fill its batch of 64, with others in between. */
export const BATCH_CASE_COUNT = 96;
const RECEIVE_COUNT_MAX = 64;

const EINTR = -4, EIO = -5, EBADF = -9, EAGAIN = -11, ENOMEM = -12, ENODEV = -19, EINVAL = -22;
const EOPNOTSUPP = -95, EMSGSIZE = -90, ENOBUFS = -105;
const SEND_RESULTS = [1, 2, EAGAIN, ENOBUFS, EINTR, EINVAL, EMSGSIZE, EIO, EOPNOTSUPP];
const WRITE_RESULTS = [EIO, EAGAIN, EINVAL, ENOMEM, EINTR];
const DEAD = [EBADF, ENODEV];
const EHOSTUNREACH = -113;
const UDP_AND_IPV4_BYTES = 28;
/** What a path may be said to carry; some of it is nonsense. */
const PATH_MTUS = [
  EHOSTUNREACH,
  0,
  1,
  49,
  50,
  58,
  70,
  78,
  576,
  1280,
  1300,
  1500,
  65_535,
  0x7fff_ffff,
];

/** The generator of one thing of a seed, the same wherever it is asked for. */
export function generator(seed: number, index: number, kind: number): Random {
  return new Random(
    (Math.imul(seed ^ (kind << 28), 0x9e3779b1) + Math.imul(index, 0x85ebca6b)) | 0,
  );
}

/** How a loop is started, in one place. */
function runLoop(on: Bench, role: Role): number {
  return role === "egress" ? on.egress() : on.ingress();
}

interface Totals {
  readonly came: number;
  readonly left: number;
  readonly dropped: number;
  /** Of the dropped: those that the kernel did not take. */
  readonly refused: number;
}

export class LoopFuzzer {
  readonly #assertUntouched: () => void;
  readonly #isVirtio: boolean;
  readonly #isGro: boolean;

  private constructor(
    private readonly on: Bench,
    readonly role: Role,
    readonly network: FuzzNetwork,
    readonly offloads: readonly Offload[],
    private readonly seed: number,
    private readonly cases: Cases,
  ) {
    this.#assertUntouched = guard(on.shared, role, network);
    this.#isVirtio = offloads.includes("csum");
    this.#isGro = offloads.includes("udp-gro");
  }

  /** A loop over a fresh memory. */
  static async start(
    role: Role,
    network: FuzzNetwork,
    offloads: readonly Offload[],
    seed: number,
  ): Promise<LoopFuzzer> {
    const on = await bench(offloads, network.overlay, network.peers);
    return new LoopFuzzer(on, role, network, offloads, seed, new Cases(seed, network));
  }

  /** Throws if anything was written where the loop must not write. */
  assertUntouched(): void {
    this.#assertUntouched();
  }

  /**
   * Runs these cases in one run of the loop; `isCalm`: no system call fails. Throws what is wrong.
   * Returns the packets that left.
   */
  run(cases: readonly number[], isCalm = false): number {
    const { io } = this.on;
    const script = generator(this.seed, cases[0]!, 1);
    io.sent.length =
      io.cut.length =
      io.icmpErrors.length =
      io.sendCalls.length =
        0;
    io.pollCalls.length = io.written.length = 0;
    const before = this.#totals();
    io.sendResults = [];
    io.writeResults = [];
    this.#narrow(script.pick(PATH_MTUS));
    const isDying = !isCalm && this.#scriptFailures(script);
    const outcomes = this.role === "egress"
      ? this.#runEgress(cases, script, isDying)
      : this.#runIngress(cases, script, isDying);
    const after = this.#totals();
    const came = after.came - before.came;
    const left = after.left - before.left;
    const actual = this.#actual();
    assert.equal(came, left + after.dropped - before.dropped, "in = out + drops");
    assert.equal(left, actual.length, "went out");
    const isWholeOne = this.network.family === 6 ? isWhole6 : isWhole;
    for (const { packet } of actual) assert.ok(isWholeOne(packet), "what left is no whole packet");
    this.#assertIcmp();
    if (!this.network.isExact) return left;
    const expected = outcomes.flatMap(({ packets }) => packets);
    assert.equal(came, outcomes.reduce((sum, { count }) => sum + count, 0), "came in");
    assert.equal(left + after.refused - before.refused, expected.length, "out + refused");
    assertSubsequence(actual, expected, this.role === "ingress" && this.#isVirtio);
    return left;
  }

  /** Has the path carry so much; where the twin knows no fragments it carries all. */
  #narrow(pathMtu_bytes: number): void {
    const { io } = this.on;
    io.pathMtu_bytes = this.network.isExact ? EHOSTUNREACH : pathMtu_bytes;
    const isNarrow = !this.network.isExact && pathMtu_bytes > 0;
    io.refuses = ({ payload, segment }) => {
      const size_bytes = (segment === 0 ? payload.length : segment) + UDP_AND_IPV4_BYTES;
      if (!isNarrow || size_bytes <= pathMtu_bytes) return 0;
      return segment === 0 ? EMSGSIZE : EINVAL;
    };
  }

  /** Failures for the first sends or writes. Whether the descriptor dies at one of them. */
  #scriptFailures(script: Random): boolean {
    const { io } = this.on;
    const isDying = script.below(20) === 0;
    const last = isDying ? [script.pick(DEAD)] : [];
    const some = (results: readonly number[]) =>
      Array.from({ length: script.below(30) }, () => script.pick(results)).concat(last);
    if (this.role === "egress") io.sendResults = some(SEND_RESULTS);
    else if (isDying || script.below(3) === 0) io.writeResults = some(WRITE_RESULTS);
    return isDying;
  }

  #end(isDying: boolean): void {
    const result = runLoop(this.on, this.role);
    assert.ok(result === 0 || (isDying && DEAD.includes(result)), `the loop ended with ${result}`);
  }

  #runEgress(cases: readonly number[], script: Random, isDying: boolean) {
    const { io } = this.on;
    const start_bytes = this.#isVirtio ? VIRTIO_BYTES : 0;
    const inputs: Uint8Array[] = [];
    io.reads = cases.flatMap((one) => {
      const random = generator(this.seed, one, 2);
      const input = this.cases.read(random, this.#isVirtio);
      inputs.push(input);
      const failure = random.below(40) === 0 ? [random.pick([EINTR, ENOMEM, EAGAIN])] : [];
      return [...failure, input];
    });
    this.#answerPolls(() => io.reads.length, script);
    this.#end(isDying);
    const left = io.reads.filter((read) => typeof read !== "number").length;
    if (!this.network.isExact) return [];
    return inputs.slice(0, inputs.length - left).map((read) => egressOutcome(read, start_bytes));
  }

  #runIngress(cases: readonly number[], script: Random, isDying: boolean) {
    const { io } = this.on;
    const inputs = cases.map((one) => {
      return this.cases.message(generator(this.seed, one, 2), this.#isGro);
    });
    io.receives = [];
    for (let first = 0; first < inputs.length;) {
      if (script.below(8) === 0) io.receives.push(script.pick([EINTR, EAGAIN, ENOMEM]));
      const count = 1 + script.below(RECEIVE_COUNT_MAX);
      io.receives.push(inputs.slice(first, first + count));
      first += count;
    }
    this.#answerPolls(() => io.receives.length, script);
    this.#end(isDying);
    const left = io.receives.reduce(
      (sum: number, batch) => sum + (typeof batch === "number" ? 0 : (batch as Datagram[]).length),
      0,
    );
    if (!this.network.isExact) return [];
    return inputs.slice(0, inputs.length - left).map((one) => ingressOutcome(this.network, one));
  }

  /** While input remains a poll finds it, or finds room, or nothing; then the loop is woken. */
  #answerPolls(remaining: () => number, script: Random): void {
    const { io } = this.on;
    io.polls = [];
    io.onPoll = () => {
      if (remaining() === 0 && script.below(4) > 0) return;
      io.polls.push(script.pick([0, EINTR, [POLLIN, 0], [POLLIN, 0], [POLLOUT, 0]] as const));
    };
  }

  /** What left, with where to. */
  #actual(): Expected[] {
    const { io } = this.on;
    if (this.role === "egress") {
      return [...io.sent, ...io.cut].map(({ to, payload }) => ({
        to,
        packet: sent(this.network, payload),
      }));
    }
    const read = this.network.isExact ? packetsOfWrite : wholeOfWrite;
    const packets = this.#isVirtio ? io.written.flatMap(read) : io.written;
    return packets.map((packet) => ({ to: "", packet }));
  }

  #assertIcmp(): void {
    for (const { payload } of this.on.io.icmpErrors) {
      if (this.network.family === 6) {
        assert.ok(isWhole6(payload), "an ICMPv6 error is not one whole packet");
        continue;
      }
      assert.ok(isWhole(payload), "an ICMP error is not one whole packet");
      assert.equal(naiveChecksum(payload.subarray(0, 20)), 0, "checksum of an ICMP error's header");
      assert.equal(naiveChecksum(payload.subarray(20)), 0, "checksum of an ICMP error");
    }
  }

  #totals(): Totals {
    const counters = readCounters(this.on.shared);
    const isEgress = this.role === "egress";
    const dropped = DROP_REASONS.filter(({ role }) => role === this.role)
      .reduce((sum, { name }) => sum + counters.drops[name]!, 0);
    return {
      came: isEgress ? counters.tunPackets : counters.datagrams,
      left: isEgress ? counters.sentPackets : counters.receivedPackets,
      dropped,
      refused: counters.drops[isEgress ? "egress_send_failed" : "ingress_tun_write_failed"]!,
    };
  }
}

/**
 * A write to a TUN with a virtio header, as often as the kernel makes packets of it. What is wrong
 * with the packet otherwise stays wrong: our kernel drops it.
 */
function wholeOfWrite(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const packet = bytes.subarray(VIRTIO_BYTES);
  if (bytes[1] === 0) return [packet];
  const [headers, step] = [view.getUint16(2, true), view.getUint16(4, true)];
  assert.ok(step > 0 && headers + step < packet.length, "a virtio header of one segment or none");
  const field = view.getUint16(6, true) + view.getUint16(8, true);
  assert.ok(field + 2 <= headers, "a checksum that is not in the headers");
  return new Array(Math.ceil((packet.length - headers) / step)).fill(packet);
}

/** Each packet is the next of those expected, or one behind it: some were refused. */
function assertSubsequence(
  actual: readonly Expected[],
  expected: readonly Expected[],
  isRenumbered: boolean,
): void {
  let at = 0;
  for (const [i, { to, packet }] of actual.entries()) {
    const isIt = (one: Expected) => one.to === to && isSame(packet, one.packet, isRenumbered);
    while (at < expected.length && !isIt(expected[at]!)) at++;
    assert.ok(at < expected.length, `packet ${i} of ${actual.length} is none that came in`);
    at++;
  }
}
