/** Trying something of the system without being thrown at. */
import { errorText, hintOf } from "../errors.ts";
import type { Trial } from "./facts.ts";

export const WORKS: Trial = { state: "works" };

export function refused(why: string): Trial {
  return { state: "refused", why };
}

export function unseen(why: string): Trial {
  return { state: "unseen", why };
}

/** The errno name of anything that was thrown; empty where it has none. */
export function codeOf(error: unknown): string {
  const { errnoName, code } = error as { errnoName?: unknown; code?: unknown };
  return typeof errnoName === "string" ? errnoName : typeof code === "string" ? code : "";
}

/** `works` if `run` returns; what it throws is a refusal, unless its code is in `unseenCodes`. */
export function attempt(run: () => void, unseenCodes: readonly string[] = []): Trial {
  try {
    run();
    return WORKS;
  } catch (error) {
    return fromError(error, unseenCodes);
  }
}

export function fromError(error: unknown, unseenCodes: readonly string[] = []): Trial {
  const why = errorText(error);
  if (unseenCodes.includes(codeOf(error))) return unseen(why);
  const hint = hintOf(error);
  return hint === "" ? refused(why) : { state: "refused", why, hint };
}

/** What `read` returns, or `otherwise` if it throws. */
export function valueOr<T, U>(read: () => T, otherwise: U): T | U {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
