/**
 * One end of the latency measurement, in a container: a small UDP request at a time, answered by
 * the other end.
 *
 *     latency_child.ts echo OWN_ADDRESS OTHER_ADDRESS
 *     latency_child.ts ask OWN_ADDRESS OTHER_ADDRESS COUNT    prints {"lost": n, "times_us": [...]}
 */
import { currentNetns } from "../../ffi/netns.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { BarePeer } from "../e2e/bare_peer.ts";

const PORT = 7007;
const REQUEST_BYTES = 64;
const WARM_UP_COUNT = 200;
const TIMEOUT_MS = 200;
/** The echo waits in steps, so that it does not outlive a signal for long. */
const ECHO_WAIT_MS = 1_000;

function echo(peer: BarePeer, other: IpAddress): never {
  console.log("ready");
  while (true) {
    const request = peer.receive(ECHO_WAIT_MS);
    if (request !== null) peer.send(other, PORT, request);
  }
}

/** One request; its round trip in µs, or null if no answer to it came in time. */
function roundTrip_us(peer: BarePeer, other: IpAddress, number: number): number | null {
  const request = new Uint8Array(REQUEST_BYTES);
  new DataView(request.buffer).setUint32(0, number);
  const start_ms = performance.now();
  peer.send(other, PORT, request);
  while (true) {
    const answer = peer.receive(TIMEOUT_MS);
    const end_ms = performance.now();
    if (answer === null) return null;
    // The answer to a request that was given up may come late.
    const answered = new DataView(answer.buffer, answer.byteOffset).getUint32(0);
    if (answered === number) return (end_ms - start_ms) * 1000;
  }
}

function ask(peer: BarePeer, other: IpAddress, count: number): void {
  const times_us: number[] = [];
  let lost = 0;
  for (let number = 0; number < WARM_UP_COUNT + count; number++) {
    const time_us = roundTrip_us(peer, other, number);
    if (number < WARM_UP_COUNT) continue;
    if (time_us === null) lost++;
    else times_us.push(time_us);
  }
  console.log(JSON.stringify({ lost, times_us }));
}

const [role, own, other, count] = process.argv.slice(2);
const peer = new BarePeer(currentNetns(), IpAddress.parse(own!), PORT);
if (role === "echo") echo(peer, IpAddress.parse(other!));
ask(peer, IpAddress.parse(other!), Number(count));
peer.close();
