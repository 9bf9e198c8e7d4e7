/** What a command has of the outside: its output, its environment, its clock. */

export interface CliIo {
  /** For results. */
  out(text: string): void;
  /** For errors and advice. */
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether `out` is a terminal. */
  readonly isTerminal: boolean;
  /** In ms since 1970. */
  now_ms(): number;
  /** Aborted on Ctrl-C, and when nobody reads `out` any more; from the first call on. */
  interrupted(): AbortSignal;
}

/** The process's own. */
export function processIo(): CliIo {
  const abort = new AbortController();
  let listening = false;
  // A reader such as head(1) that goes away is no error of ours.
  process.stdout.on("error", () => abort.abort());
  process.stderr.on("error", () => {});
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env: process.env,
    isTerminal: process.stdout.isTTY === true,
    now_ms: () => Date.now(),
    interrupted() {
      if (!listening) {
        process.once("SIGINT", () => abort.abort());
        process.once("SIGTERM", () => abort.abort());
      }
      listening = true;
      return abort.signal;
    },
  };
}
