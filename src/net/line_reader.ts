/** Reading a stream of JSON lines. */
import { SelvageError } from "../errors.ts";

/** The longest line that is read; a batch may hold every lease of a network of 65,536 nodes. */
export const LINE_SIZE_MAX_BYTES = 64 * 1024 * 1024;

export interface LineReaderOptions {
  /** A stream that is silent for so long while a line is waited for counts as lost. */
  readonly silence_ms?: number;
  /** Ends the reading, tidily, between two lines. */
  readonly signal?: AbortSignal;
  readonly sizeMax_bytes?: number;
}

/**
 * The lines of a stream, without their ends, as they come; empty ones are left out. Throws
 * `unavailable` for silence, `too_large` past the bound. An end in the middle of a line drops that
 * part. The stream is cancelled whatever ends the reading.
 */
export async function* readLines(
  stream: ReadableStream<Uint8Array>,
  { silence_ms, signal, sizeMax_bytes = LINE_SIZE_MAX_BYTES }: LineReaderOptions = {},
): AsyncGenerator<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  // Pieces of the line that is not whole yet: joined once, however many there are.
  let pieces: string[] = [];
  let length = 0;
  try {
    while (!signal?.aborted) {
      const part = await readWithin(reader, silence_ms);
      if (part.done) return;
      const lines = decoder.decode(part.value, { stream: true }).split("\n");
      const rest = lines.pop()!;
      for (const line of lines) {
        const whole = pieces.join("") + line;
        pieces = [];
        length = 0;
        if (whole !== "") yield whole;
      }
      pieces.push(rest);
      length += rest.length;
      if (length > sizeMax_bytes) {
        throw new SelvageError("too_large", `a line of more than ${sizeMax_bytes} bytes`);
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function readWithin(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  silence_ms: number | undefined,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  if (silence_ms === undefined) return await reader.read();
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
