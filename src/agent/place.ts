/** Whether the devices and ports of a network can be had on this host. */
import type { VtepMacs } from "../backend/backend.ts";
import { fallbackNotice } from "../backend/select.ts";
import { adviceText } from "../errors.ts";
import { probeWritable } from "../files.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { whyNotMade } from "../kernel/probe.ts";
import { logger } from "../log.ts";
import { pause } from "../retry.ts";
import type { HostKernel } from "./host_kernel.ts";
import type { Network } from "./network.ts";
import { PortTaken, probeTunnel } from "./open_tunnel.ts";
import { requireTun } from "./preflight.ts";

/** How often a device or port that another has is tried again. */
export const PLACE_RETRY_MS = 1_000;

/** This host as of now. */
export interface Place {
  readonly kernel: Pick<HostKernel, "connection" | "reconciler">;
  readonly link: OuterLink;
  readonly vtepMacs: VtepMacs;
}

/**
 * Which program has a port of the network's tunnels; null: none. Throws if a device's name is
 * taken.
 */
function whyNotOpened({ backend, config }: Network, place: Place): string | null {
  const { kernel, link, vtepMacs } = place;
  for (const tunnel of backend.tunnels(config, link, vtepMacs)) {
    try {
      probeTunnel(tunnel, link, kernel.reconciler);
    } catch (error) {
      if (!(error instanceof PortTaken)) throw error;
      return adviceText(error);
    }
  }
  return null;
}

/**
 * Why the network's devices and ports cannot be had, such as a VNI that flanneld's device has, as a
 * sentence with what to do; null: they can. Throws if waiting does not mend it.
 */
export function whyNoPlace(network: Network, place: Place): string | null {
  const { backend, config } = network;
  const { kernel, link, vtepMacs } = place;
  const devices = backend.devices?.(config, link, vtepMacs) ?? [];
  return whyNotOpened(network, place) ??
    devices.map((device) => whyNotMade(kernel.connection, device)).find((why) => why !== null) ??
    null;
}

/**
 * Throws if the network's tunnel cannot be opened on this host, or its subnet not be written to the
 * file. A port that another program has is no reason: it is waited for.
 */
export function requirePlace(network: Network, place: Place, subnetFile: string): void {
  probeWritable(subnetFile);
  const { backend, config } = network;
  if (backend.tunnels(config, place.link, place.vtepMacs).length > 0) {
    requireTun(fallbackNotice(config, backend) !== null);
  }
  whyNotOpened(network, place);
}

/**
 * Calls `why` each second until it returns null; `onWaiting` gets each other answer. Rejects with
 * the signal's reason.
 */
export async function awaitPlace(
  why: () => string | null,
  signal: AbortSignal,
  onWaiting: (reason: string) => void,
): Promise<void> {
  for (let told = "";;) {
    signal.throwIfAborted();
    const obstacle = why();
    if (obstacle === null) return;
    if (obstacle !== told) logger("agent").warning`waiting: ${obstacle}`;
    told = obstacle;
    onWaiting(obstacle);
    await pause(PLACE_RETRY_MS, signal);
  }
}
