/** Opens what the packet loops work on: TUN, UDP and raw sockets, and the loops themselves. */
import { closeFd } from "../../ffi/fd.ts";
import { SystemError } from "../../ffi/errno.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { addTunQueue, openTun } from "../../ffi/tun.ts";
import { enableUdpOffloads, openUdpSocket } from "../../ffi/udp_socket.ts";
import type { Tunnel } from "../backend/backend.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { Dataplane, type DataplaneOptions, LoopHangs } from "../dataplane/dataplane.ts";
import type { Overlay, Queue } from "../dataplane/lanes.ts";
import type { Offload } from "../dataplane/offloads.ts";
import { SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Lease } from "../lease/lease.ts";
import { ofFamily } from "../net/ip.ts";
import { recentPortHolderText } from "../port_holder.ts";

export interface OpenTunnels {
  readonly dataplane: Dataplane;
  /** Descriptors that are closed once the loops have ended. */
  readonly fds: readonly number[];
}

/** Link, lease and configuration have each tunnel's family. */
export interface TunnelOptions extends Pick<DataplaneOptions, "signal" | "onLate"> {
  /** At least one. */
  readonly tunnels: readonly Tunnel[];
  readonly link: OuterLink;
  readonly lease: Lease;
  readonly config: NetworkConfig;
  readonly workerUrl: URL;
  /** See `RunOptions`. */
  readonly trustsUnderlay: boolean;
  readonly allowsOutsideSources: boolean;
  readonly offloads: "auto" | readonly Offload[];
  /** Pairs of loops for each tunnel, each with a queue of the device. */
  readonly queueCount: number;
}

const TUN_OFFLOADS = ["csum", "tso", "uso"] as const satisfies readonly Offload[];
const UDP_OFFLOADS = ["udp-segment", "udp-gro"] as const satisfies readonly Offload[];

/** Another program uses a tunnel's port. */
export class PortTaken extends SelvageError {
  constructor({ family, port }: Tunnel, link: OuterLink, cause: unknown) {
    const address = ofFamily(link.addresses, family)!;
    const holder = recentPortHolderText("udp", address, port);
    super("conflict", `UDP port ${port} at ${address} is in use${holder}`, {
      hint: "Stop that program, or set Backend.Port to another port.",
      cause,
    });
  }
}

/** Says what a failed system call means to whoever runs this host. */
function explain(error: unknown, tunnel: Tunnel, link: OuterLink): unknown {
  if (!(error instanceof SystemError)) return error;
  const { code, message } = error;
  const { device, family } = tunnel;
  if (code === "EADDRINUSE") return new PortTaken(tunnel, link, error);
  if (code === "EBUSY") {
    return new SelvageError("conflict", `device ${device} is taken: ${message}`, {
      hint: "Another selvage may be running here; stop it, or remove the device.",
      cause: error,
    });
  }
  if (code === "EPERM" || code === "EACCES") {
    return new SelvageError("permission", message, {
      hint: "Run it as root, or with CAP_NET_ADMIN, CAP_NET_RAW and access to /dev/net/tun.",
      cause: error,
    });
  }
  if (code === "EAFNOSUPPORT" || code === "EADDRNOTAVAIL") {
    return new SelvageError("unavailable", message, {
      hint: `IPv${family} is switched off here, or the address has gone or is not ready yet.`,
      cause: error,
    });
  }
  return new SelvageError("unavailable", message, { cause: error });
}

function outerAddress({ family }: Tunnel, link: OuterLink): Uint8Array {
  return ofFamily(link.addresses, family)!.toBytes();
}

/** Throws if another program has the tunnel's device or its port (`PortTaken`); changes nothing. */
export function probeTunnel(tunnel: Tunnel, link: OuterLink, reconciler: Reconciler): void {
  reconciler.ensureNameFree(tunnel.device);
  try {
    closeFd(openUdpSocket(outerAddress(tunnel, link), tunnel.port));
  } catch (error) {
    throw explain(error, tunnel, link);
  }
}

type Own = (fd: number) => number;

/** The sockets of one queue, one for both ways with the first. */
function openSockets(tunnel: Tunnel, options: TunnelOptions, isFirst: boolean, own: Own) {
  const address = outerAddress(tunnel, options.link);
  const isPortShared = options.queueCount > 1;
  // Whoever shares the port as we would, another selvage, would not be noticed else.
  if (isFirst && isPortShared) closeFd(openUdpSocket(address, tunnel.port));
  const receive_fd = own(openUdpSocket(address, tunnel.port, { isPortShared, isWhole: true }));
  if (isFirst) return { receive_fd, send_fd: receive_fd };
  // A port of its own for each queue: by that the other end's sockets tell the flows apart.
  const send_fd = own(openUdpSocket(address, 0, { isWhole: true, isSendOnly: true }));
  return { receive_fd, send_fd };
}

/** Opens everything of one tunnel; the descriptors go to `own` one by one. */
function openOverlay(tunnel: Tunnel, options: TunnelOptions, own: Own): Overlay {
  const { lease, config, offloads: wanted, queueCount } = options;
  const { family, device, mtu_bytes, encapsulation } = tunnel;
  const isWanted = (one: Offload) => wanted === "auto" || wanted.includes(one);
  // The sockets come first: a port that is taken is more likely than a device's name.
  const sockets = Array.from(
    { length: queueCount },
    (_, i) => openSockets(tunnel, options, i === 0, own),
  );
  const tun = openTun(device, TUN_OFFLOADS.filter(isWanted), queueCount > 1);
  own(tun.fd);
  const udpWanted = UDP_OFFLOADS.filter(isWanted);
  const queues: Queue[] = [];
  const active: Offload[][] = [];
  for (const { receive_fd, send_fd } of sockets) {
    const tun_fd = queues.length === 0 ? tun.fd : own(addTunQueue(device, tun.offloads));
    active.push(enableUdpOffloads(receive_fd, udpWanted), enableUdpOffloads(send_fd, udpWanted));
    queues.push({ tun_fd, receive_fd, send_fd });
  }
  const udpOffloads = udpWanted.filter((one) => active.every((list) => list.includes(one)));
  return {
    family,
    subnet: ofFamily(lease.subnets, family)!,
    outerAddress: ofFamily(options.link.addresses, family)!,
    network: ofFamily(config.ranges, family)!.network,
    trustsUnderlay: options.trustsUnderlay,
    allowsOutsideSources: options.allowsOutsideSources,
    mtu_bytes,
    encapsulation,
    icmp_fd: own(openRawSocket(family)),
    cut_fd: family === 4
      ? -1
      : own(openUdpSocket(outerAddress(tunnel, options.link), 0, { isSendOnly: true })),
    queues,
    offloads: [...tun.offloads, ...udpOffloads],
  };
}

/** Starts the loops. Throws, with all of it given back to the kernel, if one thing fails. */
export async function openTunnels(options: TunnelOptions): Promise<OpenTunnels> {
  const { tunnels, workerUrl, signal, onLate } = options;
  const fds: number[] = [];
  const own = (fd: number): number => {
    fds.push(fd);
    return fd;
  };
  try {
    const overlays = tunnels.map((tunnel) => {
      try {
        return openOverlay(tunnel, options, own);
      } catch (error) {
        throw explain(error, tunnel, options.link);
      }
    });
    const dataplane = await Dataplane.start({ workerUrl, overlays, signal, onLate });
    return { dataplane, fds };
  } catch (error) {
    // A loop that hangs still has them: another file under their number would be its next.
    if (!(error instanceof LoopHangs)) fds.forEach(closeFd);
    throw error;
  }
}

/** Ends the loops and gives everything back. Throws if a loop hangs; its descriptors stay open. */
export async function closeTunnels({ dataplane, fds }: OpenTunnels): Promise<void> {
  await dataplane.stop();
  fds.forEach(closeFd);
}
