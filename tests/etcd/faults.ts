/** Failures at a chosen call of an etcd in memory. */
import type { Operation } from "../../src/etcd/client/kv.ts";
import { hasCode } from "../../src/errors.ts";
import type { CallName, FakeServer, Fate } from "./fake_etcd.ts";

export const FATES: readonly Fate[] = ["lost", "unsent", "unanswered", "late"];

/** Whether the call may change anything. */
export function isWrite(call: CallName, args: readonly unknown[]): boolean {
  if (call === "grantLease" || call === "revokeLease") return true;
  const then = call === "transact" ? args[1] as Operation[] : [];
  return then.some((one) => "put" in one || "delete" in one);
}

/**
 * Lets the write number `n` (from 0) meet this fate. What is late is delivered before the
 * `delay`-th call after it. The result says whether there was such a write.
 */
export function failWrite(
  server: FakeServer,
  n: number,
  fate: Fate,
  delay: number,
): { readonly hasHappened: boolean } {
  let count = 0;
  let after = -1;
  server.fault = (call, args) => {
    if (after >= 0 && ++after === delay) server.deliverLate();
    if (!isWrite(call, args) || count++ !== n) return null;
    after = 0;
    return fate;
  };
  return {
    get hasHappened() {
      return after >= 0;
    },
  };
}

/** Tries as the agent does: whatever is `unavailable` is asked for again. */
export async function persist<T>(work: () => Promise<T>): Promise<T> {
  for (let tryCount = 1;; tryCount++) {
    try {
      return await work();
    } catch (error) {
      if (!hasCode(error, "unavailable") || tryCount >= 10) throw error;
    }
  }
}
