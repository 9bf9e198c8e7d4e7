/** Changes of the network's configuration that keep hosts apart until all have taken them up. */
import type { ConfigChange } from "../config/config_changes.ts";
import { SelvageError } from "../errors.ts";
import { UDP_DEFAULT_PORT } from "./udp.ts";
import { VXLAN_DEFAULT_PORT, VXLAN_DEFAULT_VNI } from "./vxlan_options.ts";

/** A running host keeps the old value of these until Selvage is restarted there. */
const RESTART_KEYS = [
  "EnableIPv4",
  "EnableIPv6",
  "Network",
  "IPv6Network",
  "Backend.Type",
] as const;

/** A running host takes these up at once; the values are those where none is given. */
const RUNNING_KEYS: Readonly<Record<string, readonly number[]>> = {
  "Backend.VNI": [VXLAN_DEFAULT_VNI],
  "Backend.Port": [UDP_DEFAULT_PORT, VXLAN_DEFAULT_PORT],
};

export interface ConfigSplit {
  readonly kind: "restart" | "running";
  /** Such as `Backend.Type "udp" → "vxlan"`. */
  readonly what: string;
  /** What happens and what to do, in whole sentences. */
  readonly procedure: string;
}

/** If one of the two is left out, the other may be the default. */
function isDefault(key: string, { now, next }: ConfigChange): boolean {
  if (now !== null && next !== null) return false;
  return RUNNING_KEYS[key]!.some((value) => String(value) === (now ?? next));
}

function restartProcedure(changes: readonly ConfigChange[]): string {
  const isMoved = changes.some(({ key }) => key !== "Backend.Type");
  return "A running host keeps the old value until Selvage is restarted there. Until then no " +
    "packets pass between it and the hosts that were restarted; both sides say so in selvage " +
    "status and are not ready. What to do: write the configuration, then restart Selvage on " +
    "every host, best on all at the same time." +
    (isMoved
      ? " At its restart a host may get other subnets; its containers must then be made anew."
      : "");
}

function runningProcedure(changes: readonly ConfigChange[]): string {
  const hasPort = changes.some(({ key }) => key === "Backend.Port");
  return "Running hosts take this up within a second; connections pause for that time. A host " +
    "that cannot reach the store now, or that runs flanneld, keeps the old value: no packets " +
    "pass between it and the others until it reaches the store, or until flanneld is restarted." +
    (hasPort ? " What to do first: let the new port pass every firewall." : "");
}

/** Which of these changes keeps hosts apart; null: none. */
export function findSplit(changes: readonly ConfigChange[]): ConfigSplit | null {
  // Every configuration names its type. Where there was none until now, there are no hosts.
  const isFirst = changes.some(({ key, now }) => key === "Backend.Type" && now === null);
  const found = isFirst ? [] : changes;
  const restart = found.filter(({ key }) => RESTART_KEYS.some((one) => one === key));
  const running = found.filter((change) =>
    RUNNING_KEYS[change.key] !== undefined && !isDefault(change.key, change)
  );
  const all = [...restart, ...running];
  if (all.length === 0) return null;
  const what = all.map(({ key, now, next }) => `${key} ${now ?? "unset"} → ${next ?? "unset"}`);
  return {
    kind: restart.length > 0 ? "restart" : "running",
    what: what.join(", "),
    procedure: restart.length > 0 ? restartProcedure(restart) : runningProcedure(running),
  };
}

/** Throws `conflict` if the change parts several hosts until each of them is restarted. */
export function refuseSplit(split: ConfigSplit | null, hostCount: number): void {
  if (split === null || split.kind !== "restart" || hostCount < 2) return;
  const text = `this change splits the network of ${hostCount} hosts: ${split.what}`;
  throw new SelvageError("conflict", text, {
    hint: `${split.procedure} Nothing was written. To write it: selvage config set FILE --force, ` +
      "in the API ?force=true.",
  });
}
