/** A host that opens a watch and then reads nothing more: `PORT REQUEST`. */
import { connect } from "node:tls";

/** Nobody is to wait for longer for a server that does not answer. */
setTimeout(() => process.exit(1), 20_000);
const [port, request] = process.argv.slice(2);
const socket = connect({ host: "127.0.0.1", port: Number(port), rejectUnauthorized: false }, () => {
  socket.write(request!);
});
socket.once("data", () => {
  console.log("silent");
  // Holds the whole process, and so whatever reads ahead for a paused socket.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
  process.exit();
});
