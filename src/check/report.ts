/** What `selvage check` tells. */

/** The backends by what they need of a host. */
export const BACKENDS = ["udp", "vxlan (userspace)", "vxlan (kernel)", "host-gw", "ipip"] as const;

export type BackendName = typeof BACKENDS[number];

/** One check. */
export interface CheckRow {
  readonly name: string;
  /** `warning`: works, but not as well as it could; or could not be looked at. */
  readonly result: "ok" | "warning" | "missing";
  readonly seen: string;
  /** What to do; empty where nothing is to be done. */
  readonly advice: string;
}

export interface BackendReport {
  readonly name: BackendName;
  /** null: what it needs could not be looked at. */
  readonly works: boolean | null;
  /** Why not, or what could not be looked at; empty where it works. */
  readonly reason: string;
}

export interface CheckReport {
  /** Whether `selvage run` would do its work here, as far as could be seen. */
  readonly ready: boolean;
  readonly checks: readonly CheckRow[];
  /** Those in question: all, or those that the network configuration names. */
  readonly backends: readonly BackendReport[];
  /** What to do next, one sentence. */
  readonly next: string;
}
