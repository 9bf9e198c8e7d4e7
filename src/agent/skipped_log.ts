/** Tells in the log which peers begin and cease to be left out, each once. */
import type { SkippedPeer } from "../backend/backend.ts";
import { logger } from "../log.ts";

/** How many are named one by one at a time; of more the number is said. */
const NAMED_COUNT_MAX = 20;

type Write = (level: "warning" | "info", text: string) => void;

const log = logger("data-path");

function writeLog(level: "warning" | "info", text: string): void {
  if (level === "warning") log.warning`${text}`;
  else log.info`${text}`;
}

export class SkippedLog {
  readonly #write: Write;
  /** Why, by the peer's lease key. */
  #told: ReadonlyMap<string, string> = new Map();

  /** `write` takes a line; by default it goes to the log. */
  constructor(write: Write = writeLog) {
    this.#write = write;
  }

  /** Takes all that are left out now. */
  tell(skipped: readonly SkippedPeer[]): void {
    if (skipped.length === 0 && this.#told.size === 0) return;
    const now = new Map(skipped.map(({ key, reason }) => [key, reason]));
    const begun = [...now].filter(([key, reason]) => this.#told.get(key) !== reason);
    const ended = [...this.#told.keys()].filter((key) => !now.has(key));
    this.#told = now;
    const [left, back] = ["left out", "no longer left out"];
    const reasons = begun.map(([key, reason]) => `peer ${key} is ${left}: ${reason}`);
    this.#tellSome("warning", reasons, left);
    this.#tellSome("info", ended.map((key) => `peer ${key} is ${back}`), back);
  }

  #tellSome(level: "warning" | "info", lines: readonly string[], what: string): void {
    for (const line of lines.slice(0, NAMED_COUNT_MAX)) this.#write(level, line);
    const restCount = lines.length - NAMED_COUNT_MAX;
    if (restCount > 0) this.#write(level, `${restCount} more peers are ${what}`);
  }
}
