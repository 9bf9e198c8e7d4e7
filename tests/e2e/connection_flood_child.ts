/**
 * Holds as many connections to ADDRESS:PORT as it is told, and makes each that is closed anew.
 *
 *     connection_flood_child.ts ADDRESS PORT COUNT silent|tls|error|pipeline
 *
 * `silent` sends nothing at all; `tls` ends the handshake and then sends nothing; `error` sends
 * requests without a token, one after the other; `pipeline` sends them without waiting for answers.
 * Prints a line once each has been made once.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

const [host = "", port = "", count = "", mode = ""] = process.argv.slice(2);
const REOPEN_MS = 20;
const REQUEST = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
let madeCount = 0;
let connectedCount = 0;

/** Sends requests as fast as they are taken. */
function sendAll(socket: Socket): void {
  const many = REQUEST.repeat(1_000);
  const send = () => {
    while (socket.writable && socket.write(many));
  };
  socket.on("drain", send);
  send();
}

function open(): void {
  const onConnect = () => {
    connectedCount++;
    if (mode === "error") socket.write(REQUEST);
    if (mode === "pipeline") sendAll(socket);
  };
  const where = { host, port: Number(port) };
  const socket: Socket = mode === "silent"
    ? connectTcp(where, onConnect)
    : connectTls({ ...where, rejectUnauthorized: false }, onConnect);
  socket.on("error", () => {});
  socket.on("data", () => {
    if (mode === "error") setTimeout(() => socket.writable && socket.write(REQUEST), 200);
  });
  socket.once("close", () => setTimeout(open, REOPEN_MS));
}

// A few at a time: the kernel's queue of a listener has some hundred places.
const timer = setInterval(() => {
  for (let i = 0; i < 100 && madeCount < Number(count); i++, madeCount++) open();
  if (madeCount < Number(count) || connectedCount < Number(count)) return;
  clearInterval(timer);
  console.log("flooding");
}, 10);
