/** The lease of etcd under one key: asked for when it is needed, ended if it was not used. */
import type { StoreContext } from "./context.ts";

/** At most one lease of etcd, for the tries of one call. */
export class Grant {
  #id: bigint | null = null;
  #expiry_ms = 0;
  #isKept = false;

  constructor(readonly context: StoreContext) {}

  /** When the key under it ends, in ms since 1970, by our clock. */
  get expiry_ms(): number {
    return this.#expiry_ms;
  }

  /** Its id; asks for one where there is none. */
  async take(signal?: AbortSignal): Promise<bigint> {
    if (this.#id !== null) return this.#id;
    // From before the call: it must not seem to last longer than it does.
    const asked_ms = this.context.now_ms();
    const { id, ttl_s } = await this.context.etcd.grantLease(this.context.ttl_s, signal);
    this.#id = id;
    this.#expiry_ms = asked_ms + ttl_s * 1000;
    return id;
  }

  /** Our key hangs on it now, which stays, and no longer on what it hung on before. */
  keep(): void {
    this.#isKept = true;
    if (this.#id !== null) this.context.ownGrantId = this.#id;
  }

  /** Forgets one that etcd does not know any more. */
  forget(): void {
    this.#id = null;
  }

  /** Ends it, and whatever was, or may yet be, put on it by us. Throws if that cannot be done. */
  async discard(signal?: AbortSignal): Promise<void> {
    if (this.#id === null) return;
    await this.context.etcd.revokeLease(this.#id, signal);
    this.#id = null;
  }

  /** At the end of the call. Never throws: one that is left over runs out. */
  async dropUnlessKept(signal?: AbortSignal): Promise<void> {
    if (this.#isKept) return;
    const dropped = this.discard().catch(() => {});
    // A caller that has given up does not wait for it.
    if (!signal?.aborted) await dropped;
  }
}

/**
 * Ends a lease of etcd that a key was taken off, unless others hang on it: it would stay for a day
 * otherwise. 0n: there was none. Never throws: one that is left over runs out.
 */
export async function endUnusedGrant({ etcd }: StoreContext, id: bigint): Promise<void> {
  if (id === 0n) return;
  try {
    if ((await etcd.findLease(id))?.keyCount === 0) await etcd.revokeLease(id);
  } catch {
    // It was not ours to begin with, or etcd is away.
  }
}
