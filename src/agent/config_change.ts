/** What a node does when the network's configuration changes while it runs. Pure. */
import type { NetworkConfig } from "../config/network_config.ts";

/** `what` says the difference in one phrase. */
export type ConfigChange =
  /** Nothing that a running node does depends on it. */
  | { readonly kind: "none" }
  /** The packets take another way, with the subnet that the node has. */
  | { readonly kind: "obeyed"; readonly what: string }
  /** It needs another lease, or another kind of backend: a new start. */
  | { readonly kind: "refused"; readonly what: string };

function networksOf({ ranges }: NetworkConfig): string {
  return ranges.map(({ network }) => `${network}`).join(" and ");
}

/** A difference of two backends' options: `VNI 1 → 7, Port unset → 4789`. */
function optionsDifference(
  before: NetworkConfig["backend"]["options"],
  after: NetworkConfig["backend"]["options"],
): string {
  const said = (value: unknown) => value === undefined ? "unset" : JSON.stringify(value);
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => said(before[name]) !== said(after[name]))
    .map((name) => `${name} ${said(before[name])} → ${said(after[name])}`).join(", ");
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
  const what = optionsDifference(before.backend.options, after.backend.options);
  return what === "" ? { kind: "none" } : { kind: "obeyed", what };
}
