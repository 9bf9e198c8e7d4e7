/** A TCP transfer that proves every byte: both ends hash what they sent and received. */
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
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

/**
 * Listens for transfers at `address`, all of IPv4's if left out; resolves with the server and its
 * port. The caller closes the server.
 */
export function serveTransfers(address = "0.0.0.0"): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true }, receive);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, address, () => {
      const bound = server.address();
      if (bound === null || typeof bound === "string") return reject(new Error("no address"));
      resolve({ server, port: bound.port });
    });
  });
}

/** Waits until the socket takes more, or is closed. */
async function untilDrained(socket: Socket): Promise<void> {
  const left = new AbortController();
  const options = { signal: left.signal };
  await Promise.race([once(socket, "drain", options), once(socket, "close", options)]);
  // Takes the other listeners away again.
  left.abort();
}

/** Writes `size_bytes` of a key stream, no two chunks alike, as fast as the socket takes them. */
async function writeAll(socket: Socket, size_bytes: number): Promise<string> {
  const cipher = createCipheriv("aes-128-ctr", randomBytes(16), randomBytes(16));
  const zeros = new Uint8Array(CHUNK_BYTES);
  const hash = createHash("sha256");
  for (let left = size_bytes; left > 0; left -= CHUNK_BYTES) {
    const chunk = cipher.update(zeros.subarray(0, Math.min(left, CHUNK_BYTES)));
    hash.update(chunk);
    if (!socket.write(chunk)) await untilDrained(socket);
    if (socket.destroyed) throw new Error("the connection was lost");
  }
  socket.end();
  return hash.digest("hex");
}

/** What the receiver said it got. Throws if that is not a whole report of this transfer. */
function readReport(text: string, size_bytes: number): string {
  const report = JSON.parse(text) as { size_bytes?: unknown; sha256?: unknown };
  if (report.size_bytes !== size_bytes) {
    throw new Error(`${report.size_bytes} of ${size_bytes} bytes arrived`);
  }
  if (typeof report.sha256 !== "string" || !/^[0-9a-f]{64}$/.test(report.sha256)) {
    throw new Error("the receiver reported no hash");
  }
  return report.sha256;
}

/** The text that the other end sends until it is done. */
async function readAll(socket: Socket): Promise<string> {
  let text = "";
  for await (const part of socket.setEncoding("utf8")) text += part;
  return text;
}

/** Sends random bytes and waits for the receiver's hash. Rejects if that takes too long. */
export async function sendTransfer(
  host: string,
  port: number,
  size_bytes: number,
  timeout_ms: number,
): Promise<TransferResult> {
  const start_ms = performance.now();
  const socket = connect({ host, port, allowHalfOpen: true });
  const late = new Error(`transfer to ${host}: not done within ${timeout_ms / 1000} s`);
  const failed = new Promise<never>((_, reject) => socket.once("error", reject));
  const timer = setTimeout(() => socket.destroy(late), timeout_ms);
  try {
    const connected = new Promise<void>((resolve) => socket.once("connect", resolve));
    await Promise.race([connected, failed]);
    const [sentSha256, report] = await Promise.race([
      Promise.all([writeAll(socket, size_bytes), readAll(socket)]),
      failed,
    ]);
    const receivedSha256 = readReport(report, size_bytes);
    return { size_bytes, duration_ms: performance.now() - start_ms, sentSha256, receivedSha256 };
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
