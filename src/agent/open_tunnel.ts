/** Opens what the packet loops work on: TUN, UDP socket, raw socket, and the loops themselves. */
import { closeFd } from "../../ffi/fd.ts";
import { SystemError } from "../../ffi/errno.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { openTun } from "../../ffi/tun.ts";
import { enableUdpOffloads, openUdpSocket } from "../../ffi/udp_socket.ts";
import type { Tunnel } from "../backend/backend.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { Dataplane } from "../dataplane/dataplane.ts";
import type { Offload } from "../dataplane/offloads.ts";
import { SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Lease } from "../lease/lease.ts";
import { ofFamily } from "../net/ip.ts";

export interface OpenTunnel {
  readonly dataplane: Dataplane;
  /** Descriptors that are closed once the loops have ended. */
  readonly fds: readonly number[];
}

export interface TunnelOptions {
  readonly tunnel: Tunnel;
  /** Has an IPv4 address. */
  readonly link: OuterLink;
  readonly lease: Lease;
  readonly config: NetworkConfig;
  readonly workerUrl: URL;
  /** See `RunOptions`. */
  readonly offloads: "auto" | readonly Offload[];
}

const TUN_OFFLOADS = ["csum", "tso", "uso"] as const satisfies readonly Offload[];
const UDP_OFFLOADS = ["udp-segment", "udp-gro"] as const satisfies readonly Offload[];

/** Says what a failed system call means to whoever runs this host. */
function explain(error: unknown, tunnel: Tunnel): unknown {
  if (!(error instanceof SystemError)) return error;
  if (error.code === "EADDRINUSE") {
    return new SelvageError("conflict", `UDP port ${tunnel.port} is in use: ${error.message}`, {
      hint: "Stop the other program (ss -lunp shows it), or set Backend.Port.",
      cause: error,
    });
  }
  if (error.code === "EBUSY") {
    return new SelvageError("conflict", `device ${tunnel.device} is taken: ${error.message}`, {
      hint: "Another selvage may be running here; stop it, or remove the device.",
      cause: error,
    });
  }
  if (error.code === "EPERM" || error.code === "EACCES") {
    return new SelvageError("permission", error.message, {
      hint: "Run it as root, or with CAP_NET_ADMIN, CAP_NET_RAW and access to /dev/net/tun.",
      cause: error,
    });
  }
  return new SelvageError("unavailable", error.message, { cause: error });
}

/** Throws if somebody has the tunnel's device or port; nothing is changed. */
export function probeTunnel(tunnel: Tunnel, link: OuterLink, reconciler: Reconciler): void {
  reconciler.ensureNameFree(tunnel.device);
  try {
    closeFd(openUdpSocket(ofFamily(link.addresses, 4)!.toBytes(), tunnel.port));
  } catch (error) {
    throw explain(error, tunnel);
  }
}

/** Starts the loops. Throws, with all of it given back to the kernel, if one thing fails. */
export async function openTunnel(options: TunnelOptions): Promise<OpenTunnel> {
  const { tunnel, link, lease, config, workerUrl, offloads: wanted } = options;
  const fds: number[] = [];
  const own = (fd: number): number => {
    fds.push(fd);
    return fd;
  };
  try {
    const address = ofFamily(link.addresses, 4)!.toBytes();
    const udp_fd = own(openUdpSocket(address, tunnel.port));
    const isWanted = (one: Offload) => wanted === "auto" || wanted.includes(one);
    const tun = openTun(tunnel.device, TUN_OFFLOADS.filter(isWanted));
    const tun_fd = own(tun.fd);
    const udpOffloads = enableUdpOffloads(udp_fd, UDP_OFFLOADS.filter(isWanted));
    const icmp_fd = own(openRawSocket());
    const tunAddress = ofFamily(lease.subnets, 4)!.address;
    const { network } = ofFamily(config.ranges, 4)!;
    const offloads = [...tun.offloads, ...udpOffloads];
    const dataplane = await Dataplane.start({
      workerUrl,
      tun_fd,
      udp_fd,
      icmp_fd,
      tunAddress,
      network,
      offloads,
    });
    return { dataplane, fds };
  } catch (error) {
    fds.forEach(closeFd);
    throw explain(error, tunnel);
  }
}

/** Ends the loops and gives everything back. Throws if a loop hangs; its descriptors stay open. */
export async function closeTunnel({ dataplane, fds }: OpenTunnel): Promise<void> {
  await dataplane.stop();
  fds.forEach(closeFd);
}
