/** What comes in on a descriptor, without a thread that waits for it. */
import { SystemError } from "./errno.ts";
import { lastErrno, libc } from "./libc.ts";

const EAGAIN = 11;
const CHUNK_BYTES_MAX = 64 * 1024;
/** How often Deno, which can wait for no descriptor of ours, looks. */
const LOOK_MS = 20;

interface BunFile {
  stream(): ReadableStream<Uint8Array>;
}

async function* lookNowAndThen(fd: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(CHUNK_BYTES_MAX);
  while (!signal.aborted) {
    const size = libc.recv(fd, buffer, buffer.length, 0);
    if (size > 0) {
      yield buffer.slice(0, size);
    } else if (size < 0 && lastErrno() !== EAGAIN) {
      throw new SystemError("receive", lastErrno());
    } else {
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
}

async function* streamOf(file: BunFile, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = file.stream().getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel, { once: true });
  try {
    while (!signal.aborted) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

/**
 * What is received on a non-blocking socket, until the signal is aborted; a chunk, which is the
 * caller's, holds one datagram or several one after another. The descriptor stays the caller's to
 * close, afterwards. Throws what the socket reports, such as `ENOBUFS`, as an error with that
 * `code`.
 */
export function receivedChunks(fd: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const bun = (globalThis as { Bun?: { file(fd: number): BunFile } }).Bun;
  return bun === undefined ? lookNowAndThen(fd, signal) : streamOf(bun.file(fd), signal);
}
