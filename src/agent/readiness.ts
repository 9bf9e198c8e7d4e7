/** Whether a node is ready, drawn from the same parts as its status. Pure. */
import type { Readiness } from "../api/control.ts";
import type { NodeParts } from "./snapshot.ts";

/** How long the store may be away before the node says that it is not ready. */
const STORE_LOSS_MS = 60_000;

/** `now_ms` is since 1970. */
export function readinessOf(parts: NodeParts, now_ms: number): Readiness {
  const { phase, waitingFor, linkProblem, rivalProblem, path, expiry_ms, store } = parts;
  const reasons = [waitingFor, linkProblem, rivalProblem].filter((reason) => reason !== null);
  reasons.push(...(path?.problems ?? []));
  if (path?.status()?.running === false) reasons.push("the data plane is not running");
  if (expiry_ms !== null && expiry_ms < now_ms) reasons.push("the lease has run out");
  if (store !== null && !store.connected && now_ms - store.since_ms > STORE_LOSS_MS) {
    reasons.push(`the store cannot be reached: ${store.lastError ?? store.location}`);
  }
  if (reasons.length === 0 && phase !== "ready") reasons.push(phase.replaceAll("_", " "));
  return { ready: reasons.length === 0, reasons };
}
