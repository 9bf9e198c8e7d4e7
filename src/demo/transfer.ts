/** A TCP transfer that proves every byte: both ends hash what they sent and received. */
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";

const CHUNK_BYTES = 64 * 1024;

export interface TransferResult {
  readonly size_bytes: number;
  readonly duration_ms: number;
  readonly sentSha256: string;
  /** What the receiver hashed; equal to `sentSha256` when every byte arrived as sent. */
  readonly receivedSha256: string;
}

/** Answers one connection: hashes until the sender is done, then says what it got. */
function receive(socket: Socket): void {
  const hash = createHash("sha256");
  let size_bytes = 0;
  socket.on("data", (chunk: Uint8Array) => {
    hash.update(chunk);
    size_bytes += chunk.length;
  });
  socket.on("end", () => socket.end(JSON.stringify({ size_bytes, sha256: hash.digest("hex") })));
  // A sender that goes away has its own report of it.
  socket.on("error", () => socket.destroy());
}

/** Listens for transfers; resolves with the server and its port. The caller closes the server. */
export function serveTransfers(): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true }, receive);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "0.0.0.0", () => {
      const address = server.address();
      if (address === null || typeof address === "string") return reject(new Error("no address"));
      resolve({ server, port: address.port });
    });
  });
}

/** Writes `size_bytes` of a key stream, no two chunks alike, as fast as the socket takes them. */
async function writeAll(socket: Socket, size_bytes: number): Promise<string> {
  const cipher = createCipheriv("aes-128-ctr", randomBytes(16), randomBytes(16));
  const zeros = new Uint8Array(CHUNK_BYTES);
  const hash = createHash("sha256");
  for (let left = size_bytes; left > 0; left -= CHUNK_BYTES) {
    const chunk = cipher.update(zeros.subarray(0, Math.min(left, CHUNK_BYTES)));
    hash.update(chunk);
    if (!socket.write(chunk)) await new Promise<void>((resolve) => socket.once("drain", resolve));
    if (socket.destroyed) throw new Error("the connection was lost");
  }
  socket.end();
  return hash.digest("hex");
}

/** Sends random bytes and waits for the receiver's hash. Rejects if that takes too long. */
export function sendTransfer(
  host: string,
  port: number,
  size_bytes: number,
  timeout_ms: number,
): Promise<TransferResult> {
  return new Promise((resolve, reject) => {
    const start_ms = performance.now();
    const socket = connect({ host, port, allowHalfOpen: true });
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      // A write that waits for "drain" must not wait for ever.
      socket.emit("drain");
      reject(error);
    };
    const timer = setTimeout(
      () => fail(new Error(`transfer to ${host}: not done within ${timeout_ms / 1000} s`)),
      timeout_ms,
    );
    let answer = "";
    let sentSha256 = "";
    socket.setEncoding("utf8");
    socket.on("error", fail);
    socket.on("data", (text) => answer += text);
    socket.on("connect", () => {
      writeAll(socket, size_bytes).then((sha256) => sentSha256 = sha256, fail);
    });
    socket.on("end", () => {
      clearTimeout(timer);
      socket.destroy();
      const { sha256 } = JSON.parse(answer || '{"sha256":""}') as { sha256: string };
      const duration_ms = performance.now() - start_ms;
      resolve({ size_bytes, duration_ms, sentSha256, receivedSha256: sha256 });
    });
  });
}
