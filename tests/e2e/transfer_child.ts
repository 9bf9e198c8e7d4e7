/**
 * One end of a TCP transfer between containers, of either family:
 *
 *     transfer_child.ts serve ADDRESS            prints its port, and serves until it is ended
 *     transfer_child.ts send ADDRESS PORT BYTES  prints the result as JSON, and ends
 */
import process from "node:process";
import { sendTransfer, serveTransfers } from "../../src/demo/transfer.ts";

const TIMEOUT_MS = 60_000;

const [what, address, port, size_bytes] = process.argv.slice(2) as [string, string, string, string];
if (what === "serve") {
  console.log((await serveTransfers(address)).port);
} else {
  const size = Number(size_bytes);
  console.log(JSON.stringify(await sendTransfer(address, Number(port), size, TIMEOUT_MS)));
}
