/** Lines out of a byte stream. */
import { SelvageError } from "../errors.ts";

/** The longest line that is taken; a batch may hold every lease of a network of 65,536 nodes. */
const LINE_LENGTH_MAX = 64 * 1024 * 1024;

/**
 * The lines of the stream, without their ends, as they come; ends, and cancels the stream, when
 * the signal is aborted. Throws `too_large` for a line past the bound.
 */
export async function* readLines(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): AsyncGenerator<string> {
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let parts: string[] = [];
  let length = 0;
  try {
    while (!signal.aborted) {
      const chunk = await reader.read();
      if (chunk.done) return;
      const pieces = decoder.decode(chunk.value, { stream: true }).split("\n");
      const rest = pieces.pop()!;
      for (const piece of pieces) {
        yield parts.join("") + piece;
        parts = [];
        length = 0;
      }
      parts.push(rest);
      length += rest.length;
      if (length > LINE_LENGTH_MAX) {
        throw new SelvageError("too_large", `a line of more than ${LINE_LENGTH_MAX} characters`);
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
