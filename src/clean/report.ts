/** What `selvage clean` is asked to do, and what it reports. */
import type { IpPrefix } from "../net/ip.ts";

export interface CleanOptions {
  /** Whose leftovers go: ours, or those of a flanneld that ran here. */
  readonly whose: "selvage" | "flannel";
  /** Nothing is changed. */
  readonly isDryRun: boolean;
  readonly subnetFile: string;
  readonly removesSubnetFile: boolean;
  readonly apiSocket: string;
  readonly stateDir: string;
  /** Of flannel's; empty: those that the subnet file names. */
  readonly networks: readonly IpPrefix[];
}

/** One thing that is removed. */
export interface CleanStep {
  /** Such as `device`. */
  readonly kind: string;
  /** Such as `flannel.1`. */
  readonly object: string;
  /** `hand over`: a Selvage that runs needs the route, which becomes its own. */
  readonly action: "remove" | "hand over";
  /** `planned`: with `--dry-run`. */
  readonly result: "planned" | "done" | "failed";
  /** Why it failed, else null. */
  readonly error: string | null;
}

export interface CleanReport {
  readonly isDryRun: boolean;
  readonly steps: readonly CleanStep[];
  /** What was not looked at, what has to be done by hand, and what is kept; a sentence each. */
  readonly notes: readonly string[];
}
