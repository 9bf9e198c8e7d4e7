/** Entry point of the two workers: runs one packet loop until it ends. */
import { parentPort, workerData } from "node:worker_threads";
import { memoryAddress, packetIo } from "../../ffi/packet_io.ts";
import { errorText } from "../errors.ts";
import { instantiateLoops } from "./loops.ts";
import type { WorkerMessage, WorkerStart } from "./worker_protocol.ts";

function post(message: WorkerMessage): void {
  parentPort!.postMessage(message);
}

/** Blocks until the loop ends; returns 0 or the errno it ended with. */
async function run(start: WorkerStart): Promise<number> {
  const { memory, tun_fd, udp_fd, wake_fd } = start;
  const loops = await instantiateLoops(memory, packetIo(memory));
  const base = memoryAddress(memory);
  post({ type: "ready" });
  const result = start.role === "egress"
    ? loops.runEgress(base, tun_fd, udp_fd, wake_fd, start.tunAddress)
    : loops.runIngress(base, tun_fd, udp_fd, wake_fd);
  return -result;
}

try {
  post({ type: "ended", errno: await run(workerData as WorkerStart), error: null });
} catch (error) {
  post({ type: "ended", errno: 0, error: errorText(error) });
}
