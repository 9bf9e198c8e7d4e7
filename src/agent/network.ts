/** The network's configuration, and what it means on this host. */
import type { Backend } from "../backend/backend.ts";
import {
  configWarnings,
  fallbackNotice,
  type HostFeatures,
  selectBackend,
} from "../backend/select.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { checkOuterAddresses, overlayPrefixes } from "../config/overlay_prefixes.ts";
import { findTaken } from "../backend/reach_peer.ts";
import { adviceText, errorText, hasCode, isStoreFault, SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { isTakenBy, type Surrounding } from "../kernel/surroundings.ts";
import type { Lease } from "../lease/lease.ts";
import { logger } from "../log.ts";
import { ofFamily } from "../net/ip.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { pause } from "../retry.ts";
import type { LeaseStore } from "../store/store.ts";
import type { Phase } from "./status.ts";

/** flannel's: a configuration that is missing or invalid is asked for each second, for ever. */
const RETRY_MS = 1_000;
/** How long a store may be silent before the log and the status say so. */
const SILENCE_MS = 1_000;

/** What still works without a configuration on a host that an earlier run had set up. */
const UNTIL_READ = "until it answers, the devices and routes that an earlier run left in the " +
  "kernel stay in use, but Selvage does not repair them";

export interface Network {
  readonly config: NetworkConfig;
  readonly backend: Backend;
  /** What a peer's route must not cut off; not given: nothing. */
  readonly surroundings?: readonly Surrounding[];
}

/** At most so many things that would be cut off are named. */
const NAMED_MAX = 5;

/** Whether containers of the network may be at the interface, as after a run before this one. */
function mayBeOurs({ mayBeContainers, prefix }: Surrounding, { ranges }: NetworkConfig): boolean {
  return mayBeContainers && prefix.length >= (ofFamily(ranges, prefix.family)?.subnetLength ?? 0);
}

/**
 * Throws `conflict` if the overlay's routes would cut this host off from something that it needs,
 * or, if they take the whole network, hide it from other hosts' containers.
 */
function checkSurroundings(
  config: NetworkConfig,
  routesWholeNetwork: boolean,
  surroundings: readonly Surrounding[],
): void {
  const prefixes = overlayPrefixes(config, routesWholeNetwork);
  const taken = surroundings.filter((one) =>
    !mayBeOurs(one, config) && prefixes.some((prefix) =>
      isTakenBy(one, prefix) ||
      (routesWholeNetwork && one.ownAddress !== null && prefix.overlaps(one.prefix))
    )
  );
  if (taken.length === 0) return;
  const networks = config.ranges.map(({ network }) => network).join(" and ");
  const names = [...new Set(taken.map(({ what }) => what))].slice(0, NAMED_MAX).join(", ");
  const routed = routesWholeNetwork
    ? "is routed into the tunnel as a whole"
    : "has subnets that are routed to other hosts";
  throw new SelvageError(
    "conflict",
    `the overlay's network ${networks} ${routed}, which would cut this host off from ${names}`,
    {
      hint: routesWholeNetwork
        ? "Choose another Network, or a backend that routes only its subnets, such as vxlan. " +
          "To start nevertheless, use --allow-network-overlap."
        : "Choose another Network, or SubnetMin and SubnetMax that leave it out. " +
          "To start nevertheless, use --allow-network-overlap.",
    },
  );
}

/** Throws if this host cannot obey the configuration: what is wrong, and what to do. */
export function judgeNetwork(
  config: NetworkConfig,
  link: OuterLink,
  host: HostFeatures,
): Network {
  const backend = selectBackend(config, host);
  backend.check(config, link);
  if (backend.carriesNothing) return { config, backend };
  const isWhole = backend.routesWholeNetwork?.(config) ?? false;
  checkOuterAddresses(config, [...link.addresses, ...link.publicAddresses], isWhole);
  const surroundings = host.surroundings?.() ?? [];
  checkSurroundings(config, isWhole, surroundings);
  return { config, backend, surroundings };
}

/** Which network this host's own subnet hides from it, with what to do; null: none. */
export function leaseOverlap(network: Network, lease: Pick<Lease, "subnets">): string | null {
  for (const subnet of lease.subnets) {
    const taken = findTaken(subnet, { ...network, lease });
    if (taken === null) continue;
    return `this host's subnet ${subnet} overlaps ${taken.what}, so this host and its ` +
      "containers may not reach that network: reserve another subnet for this host (selvage " +
      "leases reserve SUBNET --public-ip ADDRESS) and restart selvage here, or choose " +
      `SubnetMin and SubnetMax outside of ${taken.prefix}`;
  }
  return null;
}

/** Says in the log what is odd about a configuration that this host obeys. */
export function logConfigWarnings({ config, backend }: Network): void {
  const fallback = fallbackNotice(config, backend);
  const warnings = [...configWarnings(config), ...fallback === null ? [] : [fallback]];
  for (const warning of warnings) logger("agent").warning`${warning}`;
}

/**
 * Whether waiting mends nothing: the registry does not take the join string, and a host needs
 * another. A user of etcd and the rights there are put right in etcd.
 */
export function isFinal(store: LeaseStore, error: unknown): boolean {
  return hasCode(error, "unauthorized") && store.state().kind !== "etcd";
}

/** Reads the configuration; `onSilent` gets a sentence if the store has not answered soon. */
async function readConfigReporting(
  store: LeaseStore,
  signal: AbortSignal,
  onSilent: (reason: string) => void,
): ReturnType<LeaseStore["readConfig"]> {
  const timer = setTimeout(() => {
    const { kind, location } = store.state();
    const name = kind === "etcd" ? kind : "the registry";
    onSilent(
      `${name} at ${location} has not answered yet; check that it runs, and that no firewall ` +
        "drops the packets to it",
    );
  }, SILENCE_MS);
  try {
    return await store.readConfig(signal);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Asks the store for the configuration, once and for no longer than `limit_ms`. Returns why it is
 * away; null: it has answered, whatever the answer is. `onSilent` gets a sentence if it has not
 * answered soon. Rejects with the signal's reason.
 */
export async function findStoreAway(
  store: LeaseStore,
  signal: AbortSignal,
  limit_ms: number,
  onSilent: (reason: string) => void,
): Promise<string | null> {
  const link = new LinkedSignal([signal]);
  const late = new SelvageError("unavailable", `no answer within ${limit_ms / 1000} s`);
  link.setDeadline(limit_ms, late);
  try {
    await readConfigReporting(store, link.signal, onSilent);
    return null;
  } catch (error) {
    signal.throwIfAborted();
    return isStoreFault(error) && !isFinal(store, error) ? errorText(error) : null;
  } finally {
    link.dispose();
  }
}

/**
 * Waits until the store has a configuration that this host can obey; `link` says which outer link
 * it has now. `whyNotMade` says why the kernel cannot make the network's devices now (null: it
 * can): until it can, no lease must say that this host has them. `hasLeftovers` says whether the
 * kernel has devices or routes of an earlier run. `onWaiting` gets the phase and the reason each
 * time they change. Rejects with errors that waiting does not mend, and with the signal's reason.
 */
export async function awaitNetwork(
  store: LeaseStore,
  link: () => OuterLink,
  host: HostFeatures,
  signal: AbortSignal,
  whyNotMade: (network: Network) => string | null,
  hasLeftovers: () => boolean,
  onWaiting: (phase: Phase, reason: string) => void,
): Promise<Network> {
  let told = "";
  const wait = (phase: Phase, reason: string) => {
    if (reason !== told) logger("agent").warning`waiting: ${reason}`;
    told = reason;
    onWaiting(phase, reason);
  };
  const onSilent = (reason: string) => {
    // A retry must not replace the reason of the failure before it.
    if (told === "") wait("waiting_for_store", reason);
  };
  while (true) {
    signal.throwIfAborted();
    try {
      const config = await readConfigReporting(store, signal, onSilent);
      const network = judgeNetwork(config, link(), host);
      const obstacle = whyNotMade(network);
      if (obstacle === null) {
        logConfigWarnings(network);
        return network;
      }
      wait("starting", obstacle);
    } catch (error) {
      signal.throwIfAborted();
      if (isFinal(store, error)) throw error;
      // The store's own state says what to do about its faults.
      const isAway = isStoreFault(error);
      const outlook = isAway && hasLeftovers() ? `; ${UNTIL_READ}` : "";
      const reason = isAway ? `${errorText(error)}${outlook}` : adviceText(error);
      wait(isAway ? "waiting_for_store" : "waiting_for_config", reason);
    }
    await pause(RETRY_MS, signal);
  }
}
