/** What a node does when the network's configuration changes while it runs. Pure. */
import type { NetworkConfig } from "../config/network_config.ts";

/** `what` says the difference in one phrase. */
export type ConfigChange =
  /** Nothing that a running node does depends on it. */
  | { readonly kind: "none" }
  /** The packets take another way, with the subnet that the node has. */
  | { readonly kind: "obeyed"; readonly what: string }
  /** It is this host's own affair how it does it, and no reason to disturb what runs. */
  | { readonly kind: "later"; readonly what: string }
  /** It needs another lease, or another kind of backend: a new start. */
  | { readonly kind: "refused"; readonly what: string };

/**
 * Options of vxlan that say how a host fills its tables, of which other hosts see nothing. Hosts
 * that started under different ones work together.
 */
const LOCAL_OPTIONS: readonly string[] = ["Generation", "Datapath"];

type BackendOptions = NetworkConfig["backend"]["options"];

function networksOf({ ranges }: NetworkConfig): string {
  return ranges.map(({ network }) => `${network}`).join(" and ");
}

function said(value: unknown): string {
  return value === undefined ? "unset" : JSON.stringify(value);
}

function changedOptions(before: BackendOptions, after: BackendOptions): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => said(before[name]) !== said(after[name]));
}

/**
 * Whether a running node can take up the change. Which subnets are given out (SubnetLen and its
 * bounds) concerns the next lease alone; the backend's options are obeyed; another network or
 * backend would part the node from what its containers and its lease were made for.
 */
export function judgeConfigChange(before: NetworkConfig, after: NetworkConfig): ConfigChange {
  const [oldNetworks, newNetworks] = [networksOf(before), networksOf(after)];
  if (oldNetworks !== newNetworks) {
    return { kind: "refused", what: `the network ${newNetworks} in place of ${oldNetworks}` };
  }
  const [oldType, newType] = [before.backend.type, after.backend.type];
  if (oldType !== newType) {
    return { kind: "refused", what: `the backend ${newType} in place of ${oldType}` };
  }
  const [oldOptions, newOptions] = [before.backend.options, after.backend.options];
  const names = changedOptions(oldOptions, newOptions);
  if (names.length === 0) return { kind: "none" };
  const what = names.map((name) => `${name} ${said(oldOptions[name])} → ${said(newOptions[name])}`);
  const isLocal = names.every((name) => LOCAL_OPTIONS.includes(name));
  return { kind: isLocal ? "later" : "obeyed", what: what.join(", ") };
}
