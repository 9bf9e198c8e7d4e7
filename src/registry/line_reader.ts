/** Reading a stream of JSON lines. */
import { SelvageError } from "../errors.ts";

/** The longest line that is read: a batch of changes. */
export const LINE_SIZE_MAX_BYTES = 8 * 1024 * 1024;

/**
 * The lines of a stream, without their ends. It throws `unavailable` when nothing comes for
 * `silence_ms` while a line is waited for, and `too_large` past the bound. An end in the middle
 * of a line drops that part. The stream is cancelled whatever ends the reading.
 */
export async function* readLines(
  stream: ReadableStream<Uint8Array>,
  silence_ms: number,
  sizeMax_bytes = LINE_SIZE_MAX_BYTES,
): AsyncGenerator<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    while (true) {
      const part = await readWithin(reader, silence_ms);
      if (part.done) return;
      const lines = (text + decoder.decode(part.value, { stream: true })).split("\n");
      text = lines.pop()!;
      if (text.length > sizeMax_bytes) {
        throw new SelvageError("too_large", `a line of more than ${sizeMax_bytes} bytes`);
      }
      for (const line of lines) if (line !== "") yield line;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function readWithin(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  silence_ms: number,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silent = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new SelvageError("unavailable", `no heartbeat came in ${silence_ms} ms`));
    }, silence_ms);
  });
  const read = reader.read();
  // Where the silence wins, the read that is left over may fail without anyone waiting for it.
  read.catch(() => {});
  try {
    return await Promise.race([read, silent]);
  } finally {
    clearTimeout(timer);
  }
}
