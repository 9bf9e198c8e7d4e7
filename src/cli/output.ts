/** Standard output, and what became of it. */
import type { Writable } from "node:stream";
import { errorText, SelvageError } from "../errors.ts";

/** Writes to a stream until that fails. */
export class Output {
  readonly #stream: Writable;
  readonly #abort: AbortController;
  #failure: unknown = null;
  /** Of the last write, which ends after all others. */
  #ended: Promise<void> = Promise.resolve();

  /** `abort` is aborted when nothing more can be written. */
  constructor(stream: Writable, abort: AbortController) {
    this.#stream = stream;
    this.#abort = abort;
    // What others wrote to it fails here.
    stream.on("error", (error) => this.#fail(error));
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#abort.abort();
  }

  write(text: string): void {
    // Bun ends an empty write before those that are under way.
    if (this.#failure !== null || text === "") return;
    this.#ended = new Promise((resolve) => {
      try {
        this.#stream.write(text, (error) => {
          if (error) this.#fail(error);
          resolve();
        });
      } catch (error) {
        // Deno writes to a file at once, and throws what that throws.
        this.#fail(error);
        resolve();
      }
    });
  }

  /**
   * Resolves when all is written, when `abort` is aborted, or when the reader has gone: that one
   * such as head(1) goes is no error of ours. Rejects if something could not be written.
   */
  async written(): Promise<void> {
    const { signal } = this.#abort;
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([this.#ended, aborted]);
    const failure = this.#failure;
    if (failure === null || (failure as { code?: unknown }).code === "EPIPE") return;
    const text = `cannot write to standard output: ${errorText(failure)}`;
    throw new SelvageError("unavailable", text, { cause: failure });
  }
}
