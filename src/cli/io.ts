/** What a command has of the outside: input and output, its environment, its clock. */
import { SelvageError } from "../errors.ts";
import { Output } from "./output.ts";

export interface CliIo {
  /** For results. */
  out(text: string): void;
  /**
   * Resolves when all of that is written, when its reader has gone, or on Ctrl-C in a command that
   * watches. Rejects if it cannot be written.
   */
  written(): Promise<void>;
  /** For errors and advice. */
  err(text: string): void;
  /** All of what is piped in, as text. Throws `too_large` beyond the bound. */
  readInput(sizeMax_bytes: number): Promise<string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether `out` is a terminal. */
  readonly isTerminal: boolean;
  /** In ms since 1970. */
  now_ms(): number;
  /** Aborted on Ctrl-C, and when no program reads `out` any more; from the first call on. */
  interrupted(): AbortSignal;
}

async function readInput(sizeMax_bytes: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let size_bytes = 0;
  for await (const part of process.stdin as AsyncIterable<Uint8Array>) {
    size_bytes += part.length;
    if (size_bytes > sizeMax_bytes) {
      throw new SelvageError("too_large", `standard input: larger than ${sizeMax_bytes} bytes`);
    }
    parts.push(part);
  }
  return new TextDecoder().decode(Buffer.concat(parts));
}

/** How often to check whether standard output still has a reader. */
const READER_CHECK_MS = 500;

/**
 * Aborts when the reader of standard output has ended, such as `head`: a command that watches may
 * have nothing to write for hours, and would go on running.
 */
async function followReader(abort: AbortController): Promise<void> {
  try {
    const { isHungUp } = await import("../../ffi/hang_up.ts");
    const timer = setInterval(() => {
      if (!isHungUp(process.stdout.fd)) return;
      clearInterval(timer);
      abort.abort();
    }, READER_CHECK_MS);
    timer.unref();
  } catch {
    // Without the C library only the next write shows it.
  }
}

/** The process's own. */
export function processIo(): CliIo {
  const abort = new AbortController();
  let listening = false;
  const output = new Output(process.stdout, abort);
  process.stderr.on("error", () => {});
  return {
    out: (text) => output.write(text),
    written: () => output.written(),
    err: (text) => void process.stderr.write(text),
    readInput,
    env: process.env,
    isTerminal: process.stdout.isTTY === true,
    now_ms: () => Date.now(),
    interrupted() {
      if (!listening) {
        process.once("SIGINT", () => abort.abort());
        process.once("SIGTERM", () => abort.abort());
        void followReader(abort);
      }
      listening = true;
      return abort.signal;
    },
  };
}
