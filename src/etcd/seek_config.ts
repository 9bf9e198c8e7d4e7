/** Looks for the configuration at the other endpoints, where the one in use has none. */
import { logger } from "../log.ts";
import { pause } from "../retry.ts";
import type { StoreContext } from "./context.ts";

/**
 * Resolves true when an endpoint has the configuration, which is in use then; false when the signal
 * is aborted, and where there is one endpoint alone. Asks one endpoint after the other, every
 * `each_ms`.
 */
export async function seekConfig(
  { etcd, keys }: StoreContext,
  each_ms: number,
  signal: AbortSignal,
): Promise<boolean> {
  const empty = etcd.location;
  while (true) {
    await pause(each_ms, signal);
    if (signal.aborted || !etcd.tryElsewhere()) return false;
    // Who watches notices by itself that none answers.
    const entry = await etcd.get(keys.config, signal).then(({ entry }) => entry, () => null);
    if (signal.aborted) return false;
    if (entry === null) continue;
    if (etcd.location !== empty) {
      const text = `${etcd.location} has ${keys.config}, and ${empty} had not`;
      const advice = "unless it was just written, check that they are members of one cluster";
      logger("etcd").warning`${text}: ${advice}`;
    }
    return true;
  }
}
