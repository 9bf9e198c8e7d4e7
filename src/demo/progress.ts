/** Says what the demo is at; with `--json` on stderr, so that stdout is the result alone. */

export class Progress {
  readonly #stream: NodeJS.WriteStream;
  #text = "";

  constructor(json: boolean) {
    this.#stream = json ? process.stderr : process.stdout;
  }

  /** Runs one step: a terminal shows it while it runs; when it is done, it is ticked off. */
  async step<T>(text: string, work: () => T | Promise<T>): Promise<T> {
    const start_ms = performance.now();
    this.#text = text;
    if (this.#stream.isTTY) this.#stream.write(`  … ${text}`);
    try {
      const result = await work();
      this.#finish("✓", start_ms);
      return result;
    } catch (error) {
      this.#finish("✗", start_ms);
      throw error;
    }
  }

  /** How far the running step is; shown on a terminal alone. */
  detail(text: string): void {
    if (this.#stream.isTTY) this.#stream.write(`\r\x1b[K  … ${this.#text}: ${text}`);
  }

  /** Shows that the running step takes long, and why; on a terminal in place of its detail. */
  late(text: string): void {
    if (this.#stream.isTTY) this.detail(text);
    else this.say([`  … ${this.#text}: ${text}`]);
  }

  #finish(mark: string, start_ms: number): void {
    const seconds = ((performance.now() - start_ms) / 1000).toFixed(1);
    const clear = this.#stream.isTTY ? "\r\x1b[K" : "";
    this.#stream.write(`${clear}  ${mark} ${this.#text} (${seconds} s)\n`);
  }

  say(lines: readonly string[]): void {
    this.#stream.write(lines.map((line) => `${line}\n`).join(""));
  }
}
