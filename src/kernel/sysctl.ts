/** Values under `/proc/sys`, of the network namespace that we are in. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileReason } from "../errors.ts";
import type { ReconcileResult } from "./problem.ts";
import type { DesiredSysctl } from "./state.ts";

const ROOT = "/proc/sys";

/** `net.ipv4.ip_forward`, as `sysctl` names it; the dots of device names are its slashes. */
function nameOf(path: string): string {
  return path.split("/").map((part) => part.replaceAll(".", "/")).join(".");
}

function bringAbout({ path, value, isSet }: DesiredSysctl): boolean {
  const file = `${ROOT}/${path}`;
  const actual = readFileSync(file, "utf8").trim();
  if (actual === value) return false;
  const advice = `set it with "sysctl -w ${nameOf(path)}=${value}"`;
  if (!isSet) throw new Error(`it is ${actual}; ${advice}`);
  try {
    writeFileSync(file, value);
  } catch (error) {
    throw new Error(`${fileReason(error)}; ${advice}`);
  }
  return true;
}

export interface SysctlResult extends ReconcileResult {
  /** What was changed, each in a few words. */
  readonly changes: readonly string[];
  /** Of values that are not there, as those of a device that is not: likewise problems. */
  readonly absent: readonly string[];
}

const isAbsent = (error: unknown) => (error as { code?: unknown }).code === "ENOENT";

/** Whether all values that can be read are as desired. Changes nothing. */
export function areSysctlsRight(desired: readonly DesiredSysctl[]): boolean {
  return desired.every(({ path, value }) => {
    try {
      return readFileSync(`${ROOT}/${path}`, "utf8").trim() === value;
    } catch {
      // A value that does not exist, or may not be read, is reported by the next reconciliation.
      return true;
    }
  });
}

/** Makes the values as desired. Never throws: what cannot be done is a problem. */
export function reconcileSysctls(desired: readonly DesiredSysctl[]): SysctlResult {
  const changes: string[] = [];
  const problems: string[] = [];
  const absent: string[] = [];
  for (const entry of desired) {
    try {
      if (bringAbout(entry)) changes.push(`set ${nameOf(entry.path)} to ${entry.value}`);
    } catch (error) {
      const text = `${nameOf(entry.path)} is not ${entry.value}: ${fileReason(error)}`;
      (isAbsent(error) ? absent : problems).push(text);
    }
  }
  return { changes, changeCount: changes.length, problems, absent };
}
