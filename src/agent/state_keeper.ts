/**
 * Watches over what a running daemon keeps in its state directory. A full disk, a directory that
 * was deleted and a file that was replaced are noticed also while nobody changes anything; what can
 * be written again is written again, and the rest is a problem until its cause is gone.
 */
import { existsSync } from "node:fs";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import {
  certificatePaths,
  type RegistryCertificate,
  storedCertificate,
  writeCertificate,
} from "../registry/certificate.ts";

/** Of a registry: what it acknowledges must be where the next start finds it. */
export const REGISTRY_CHECK_INTERVAL_MS = 2_000;
/** Of a host that keeps only small files of its own. */
export const CHECK_INTERVAL_MS = 10_000;
/** While something fails. */
const RETRY_INTERVAL_MS = 1_000;

/** One thing that is kept: a database, or a file. */
export interface KeptPart {
  /** Checks whether it exists and can be written, and repairs it if possible. Never throws. */
  check(): void;
  /** What is wrong, with what to do; null: nothing. */
  readonly failure: string | null;
}

/**
 * A file that `write` writes again if it is gone; `write` may throw. `isKept`: whether the file has
 * to be there now.
 */
export class KeptFile implements KeptPart {
  #failure: string | null = null;

  constructor(
    readonly path: string,
    readonly write: () => void,
    readonly isKept: () => boolean = () => true,
  ) {}

  get failure(): string | null {
    return this.#failure;
  }

  check(): void {
    this.#failure = null;
    if (!this.isKept() || existsSync(this.path)) return;
    try {
      this.write();
      logger("agent").warning`${this.path} was deleted; it is written again`;
    } catch (error) {
      this.#failure = `${this.path} was deleted, and cannot be written again: ${errorText(error)}`;
    }
  }
}

/**
 * Certificate and key as they are now: the registry's, or those of an API beyond loopback. Files
 * that do not fit together are left alone: a listener that needs them has refused them before.
 */
export function keptCertificate(stateDir: string): KeptFile[] {
  let pair: RegistryCertificate | null;
  try {
    pair = storedCertificate(stateDir);
  } catch (error) {
    logger("agent").info`${errorText(error)}; this host does not need the certificate now`;
    return [];
  }
  if (pair === null) return [];
  const write = () => writeCertificate(stateDir, pair);
  return Object.values(certificatePaths(stateDir)).map((path) => new KeptFile(path, write));
}

export class StateKeeper {
  readonly #parts: readonly KeptPart[];
  readonly #interval_ms: number;
  readonly #log = logger("agent");
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The problems that the log has named. */
  #logged: readonly string[] = [];

  /** Begins to check the parts, every `interval_ms` until `stop`. */
  constructor(parts: readonly KeptPart[], interval_ms: number) {
    this.#parts = parts;
    this.#interval_ms = interval_ms;
    this.#schedule();
  }

  /** What is wrong now, one sentence each. */
  get problems(): string[] {
    return this.#parts.map(({ failure }) => failure).filter((failure) => failure !== null);
  }

  #schedule(): void {
    const delay_ms = this.#logged.length > 0 ? RETRY_INTERVAL_MS : this.#interval_ms;
    this.#timer = setTimeout(() => this.#check(), delay_ms);
    this.#timer.unref();
  }

  #check(): void {
    for (const part of this.#parts) part.check();
    const { problems } = this;
    for (const problem of problems) {
      if (!this.#logged.includes(problem)) this.#log.warning`${problem}`;
    }
    for (const problem of this.#logged) {
      if (!problems.includes(problem)) this.#log.info`no longer: ${problem}`;
    }
    this.#logged = problems;
    this.#schedule();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
