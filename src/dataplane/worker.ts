/**
 * Entry point of the workers: runs one packet loop until it ends. A web worker, since
 * `node:worker_threads` costs some megabytes in each.
 */
import { memoryAddress, packetIo } from "../../ffi/packet_io.ts";
import { collectGarbage } from "../../ffi/page_out.ts";
import { errorText } from "../errors.ts";
import { instantiateLoops } from "./loops.ts";
import type { WorkerMessage, WorkerStart } from "./worker_protocol.ts";

/** What of a web worker's global scope is used here. */
interface WorkerScope {
  onmessage: ((event: { readonly data: WorkerStart }) => void) | null;
  postMessage(message: WorkerMessage): void;
}

const scope = globalThis as unknown as WorkerScope;

/** Blocks until the loop ends; returns 0 or the errno it ended with. */
async function run({ role, memory, lane }: WorkerStart): Promise<number> {
  const loops = await instantiateLoops(memory, packetIo(memory));
  const base = memoryAddress(memory);
  // The loop leaves this thread no moment in which its collector could run.
  collectGarbage();
  scope.postMessage({ type: "ready" });
  return -(role === "egress" ? loops.runEgress(base, lane) : loops.runIngress(base, lane));
}

scope.onmessage = async ({ data }) => {
  try {
    scope.postMessage({ type: "ended", errno: await run(data), error: null });
  } catch (error) {
    scope.postMessage({ type: "ended", errno: 0, error: errorText(error) });
  }
};

// A message that comes before there is somebody to take it would be lost: so it is asked for.
scope.postMessage({ type: "loaded" });
