/** What a node does when the network's configuration changes while it runs. Pure. */
import type { NetworkConfig } from "../config/network_config.ts";
import { ofFamily } from "../net/ip.ts";

/** `what` says the difference in one phrase. */
export type ConfigChange =
  | { readonly kind: "none" }
  /** The packets take another way, with the subnet that the node has. */
  | { readonly kind: "obeyed"; readonly what: string }
  /** It concerns the next lease, or is this host's own affair: no reason to disturb what runs. */
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

/** What says which subnets are given out. */
function rangeChanges(before: NetworkConfig, after: NetworkConfig): string[] {
  return after.ranges.flatMap((range) => {
    const old = ofFamily(before.ranges, range.family)!;
    const prefix = range.family === 4 ? "" : "IPv6";
    const fields = [
      ["SubnetLen", old.subnetLength, range.subnetLength],
      ["SubnetMin", old.subnetMin, range.subnetMin],
      ["SubnetMax", old.subnetMax, range.subnetMax],
    ] as const;
    return fields.filter(([, was, is]) => `${was}` !== `${is}`)
      .map(([name, was, is]) => `${prefix}${name} ${was} → ${is}`);
  });
}

/** Those that the backend has; others are passed over. */
function changedOptions(
  before: BackendOptions,
  after: BackendOptions,
  optionNames: readonly string[],
): string[] {
  const known = new Set(optionNames.map((name) => name.toLowerCase()));
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => {
    return known.has(name.toLowerCase()) && said(before[name]) !== said(after[name]);
  });
}

/**
 * Whether a running node can take up the change. Which subnets are given out (SubnetLen and its
 * bounds) concerns the next lease alone; the backend's options are obeyed; another network or
 * backend would part the node from what its containers and its lease were made for. Of several
 * changes the kind is that of the gravest. `optionNames` are those of the backend.
 */
export function judgeConfigChange(
  before: NetworkConfig,
  after: NetworkConfig,
  optionNames: readonly string[],
): ConfigChange {
  const [oldNetworks, newNetworks] = [networksOf(before), networksOf(after)];
  if (oldNetworks !== newNetworks) {
    return { kind: "refused", what: `the network ${newNetworks} in place of ${oldNetworks}` };
  }
  const [oldType, newType] = [before.backend.type, after.backend.type];
  if (oldType !== newType) {
    return { kind: "refused", what: `the backend ${newType} in place of ${oldType}` };
  }
  const [oldOptions, newOptions] = [before.backend.options, after.backend.options];
  const names = changedOptions(oldOptions, newOptions, optionNames);
  const ranges = rangeChanges(before, after);
  const options = names.map((name) => {
    return `${name} ${said(oldOptions[name])} → ${said(newOptions[name])}`;
  });
  const what = [...ranges, ...options].join(", ");
  if (names.some((name) => !LOCAL_OPTIONS.includes(name))) return { kind: "obeyed", what };
  return what === "" ? { kind: "none" } : { kind: "later", what };
}
