/** `selvage check`: what this host offers, what is missing, and what to do about it. */
import { requireProc } from "../agent/preflight.ts";
import { gatherFacts } from "./gather.ts";
import { judge } from "./judge.ts";
import type { CheckOptions } from "./options.ts";
import type { CheckReport } from "./report.ts";

/**
 * Looks at this host and judges it. Rejects only if the network configuration cannot be read or
 * breaks its rules, and without `/proc`.
 */
export async function runCheck(options: CheckOptions): Promise<CheckReport> {
  requireProc();
  return judge(await gatherFacts(options));
}
