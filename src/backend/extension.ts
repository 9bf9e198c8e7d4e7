/**
 * Backend `extension`: commands of the user's, run at the start and for each peer, see to it that
 * packets are carried. flannel's backend of the same name. Here is for whom they are run; the agent
 * runs them (`src/agent/extension.ts`).
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { NO_KERNEL_STATE } from "../kernel/state.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import type {
  Backend,
  CommandPeer,
  ExtensionCommands,
  PeerEntry,
  Plan,
  PlanInput,
} from "./backend.ts";
import { textOption } from "./backend_options.ts";
import { planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";
import { publishedAddresses } from "./published_addresses.ts";

const EXTENSION_TYPE = "extension";
/** A lease says more than this to nobody: see `LEASE_VALUE_SIZE_MAX_BYTES`. */
const DATA_LENGTH_MAX = 8 * 1024;

const OPTION_NAMES = [
  "PreStartupCommand",
  "PostStartupCommand",
  "ShutdownCommand",
  "SubnetAddCommand",
  "SubnetRemoveCommand",
] as const;

/** Reads and checks the options. Throws `invalid_argument` for one that is no text. */
function readCommands(config: NetworkConfig): ExtensionCommands {
  return {
    preStartup: textOption(config, "PreStartupCommand"),
    postStartup: textOption(config, "PostStartupCommand"),
    shutdown: textOption(config, "ShutdownCommand"),
    subnetAdd: textOption(config, "SubnetAddCommand"),
    subnetRemove: textOption(config, "SubnetRemoveCommand"),
  };
}

/** The commands that the configuration has, with the names of their keys. */
export function namedCommands(config: NetworkConfig): [name: string, command: string][] {
  return OPTION_NAMES.flatMap((name): [string, string][] => {
    const command = textOption(config, name);
    return command === null ? [] : [[name, command]];
  });
}

/** Whether the configuration names any command to run. */
export function hasCommands(config: NetworkConfig): boolean {
  return Object.values(readCommands(config)).some((command) => command !== null);
}

/** A peer in one family. */
interface FamilyEntry extends PeerEntry {
  readonly data: string;
}

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): FamilyEntry | string {
  const reach = reachPeer(peer, family, EXTENSION_TYPE, input);
  if (typeof reach === "string") return reach;
  const data = peer.backendData[4] ?? "";
  if (typeof data !== "string") return "its BackendData is not a text";
  return { ...reach, data };
}

/** One for each peer: its commands are run once, and told of both families. */
function joinFamilies(entries: readonly FamilyEntry[]): CommandPeer[] {
  const peers = new Map<string, CommandPeer>();
  for (const entry of entries) {
    const ipv4 = peers.get(entry.key);
    const { key, subnet, address } = entry;
    peers.set(
      key,
      ipv4 === undefined ? { ...entry, ipv6: null } : { ...ipv4, ipv6: { key, subnet, address } },
    );
  }
  return [...peers.values()];
}

/**
 * The attributes with what PreStartupCommand printed, for the peers' commands to read; null: there
 * is no such command.
 */
export function withCommandData(
  attributes: LeaseAttributes,
  data: string | null,
): LeaseAttributes {
  return data === null ? attributes : { ...attributes, backendData: { 4: data } };
}

/** Throws `too_large` if PreStartupCommand printed more than a lease can hold. */
export function checkCommandData(data: string): void {
  if (data.length <= DATA_LENGTH_MAX) return;
  throw new SelvageError(
    "too_large",
    `PreStartupCommand printed more than ${DATA_LENGTH_MAX} characters`,
    { hint: "Have it print only what the other hosts' commands need." },
  );
}

export const extensionBackend: Backend = {
  type: EXTENSION_TYPE,
  optionNames: OPTION_NAMES,
  check(config: NetworkConfig, link: OuterLink | null): void {
    readCommands(config);
    if (link === null) return;
    const missing = config.ranges.find(({ family }) => !ofFamily(link.publicAddresses, family));
    if (missing === undefined) return;
    const text = `interface ${link.name} has no IPv${missing.family} address`;
    throw new SelvageError("unsupported", text, { hint: "Choose another interface with --iface." });
  },
  tunnels: () => [],
  mtu_bytes: (_config, link) => link.mtu_bytes,
  attributes: (config, link) => ({
    publicAddresses: publishedAddresses(config, link),
    backendType: EXTENSION_TYPE,
    backendData: {},
  }),
  commands: readCommands,
  plan(input: PlanInput): Plan {
    const families = input.config.ranges.map(({ family }) => family);
    const { entries, skipped } = planPeers(input, families, planPeer);
    const commandPeers = joinFamilies(entries);
    return { kernel: NO_KERNEL_STATE, served: [], forwarding: [], commandPeers, skipped };
  },
};
