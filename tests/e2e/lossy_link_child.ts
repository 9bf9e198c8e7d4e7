/**
 * A relay between two hosts that loses, doubles, reorders, truncates and damages datagrams, by a
 * seed. To each host it has the other's public address:
 *
 *     lossy_link_child.ts SEED PORT NEAR_ADDRESS NEAR_HOST FAR_ADDRESS FAR_HOST
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import process from "node:process";
import { Random } from "../dataplane/random.ts";

/** Of so many datagrams one suffers each fate. */
const FATE_EVERY = 150;
const BUFFER_BYTES = 4 * 1024 * 1024;

const [seed, port, nearAddress, nearHost, farAddress, farHost] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const random = new Random(Number(seed));

async function open(address: string): Promise<Socket> {
  const socket = createSocket({ type: "udp4", recvBufferSize: BUFFER_BYTES });
  socket.bind(Number(port), address);
  await once(socket, "listening");
  return socket;
}

/** What becomes of a datagram: those that leave in its place, in order. */
function fates(held: Uint8Array[]): (datagram: Uint8Array) => Uint8Array[] {
  return (datagram) => {
    const fate = random.below(FATE_EVERY);
    if (fate === 0) return [];
    if (fate === 1) return [datagram, datagram];
    if (fate === 2) return [datagram.subarray(0, random.below(datagram.length))];
    if (fate === 3) {
      datagram[random.below(datagram.length)]! ^= 1 << random.below(8);
    }
    if (fate === 4) {
      // It leaves behind the one that comes after it.
      held.push(datagram);
      return [];
    }
    return [datagram, ...held.splice(0)];
  };
}

const [near, far] = [await open(nearAddress), await open(farAddress)];
for (const [from, to, host] of [[near, far, farHost], [far, near, nearHost]] as const) {
  const decide = fates([]);
  from.on("message", (datagram: Uint8Array) => {
    for (const one of decide(datagram)) to.send(one, Number(port), host);
  });
}
console.log("ready");
