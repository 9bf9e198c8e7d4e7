/** Whether a node is ready, drawn from the same parts as its status. Pure. */
import type { Readiness } from "../api/control.ts";
import type { StoreState } from "../store/store.ts";
import type { NodeParts } from "./snapshot.ts";

/** How long the store may be away before the node says that it is not ready. */
const STORE_LOSS_MS = 60_000;

/** Why a store that others keep makes the node not ready: it has failed for too long. */
function storeReasons(store: StoreState, now_ms: number): string[] {
  const { connected, since_ms, lastError, errorSince_ms, location } = store;
  if (!connected && now_ms - since_ms > STORE_LOSS_MS) {
    return [`the store cannot be reached: ${lastError ?? location}`];
  }
  // Such as an etcd that is full: it is read, but no lease can be renewed.
  const isFailing = connected && errorSince_ms !== null && now_ms - errorSince_ms > STORE_LOSS_MS;
  return isFailing ? [`the store takes no changes: ${lastError}`] : [];
}

/** `now_ms` is since 1970. */
export function readinessOf(parts: NodeParts, now_ms: number): Readiness {
  const { phase, waitingFor, linkProblem, rivalProblem, addressProblem, partedProblem } = parts;
  const { path, expiry_ms, store, stateProblems } = parts;
  const reasons = [waitingFor, linkProblem, rivalProblem, addressProblem, partedProblem]
    .filter((reason) => reason !== null);
  reasons.push(...(path?.problems ?? []));
  if (path?.status()?.running === false) reasons.push("the data plane is not running");
  if (expiry_ms !== null && expiry_ms < now_ms) reasons.push("the lease has run out");
  reasons.push(...stateProblems);
  // Faults of an embedded store are among the problems of the state.
  if (store !== null && store.kind !== "embedded") reasons.push(...storeReasons(store, now_ms));
  if (reasons.length === 0 && phase !== "ready") reasons.push(phase.replaceAll("_", " "));
  return { ready: reasons.length === 0, reasons };
}
