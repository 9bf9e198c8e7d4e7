/**
 * From leases to packets: asks the backend for a plan and has it carried out, by the reconciler in
 * the kernel and by the data plane in user space. Starts the data plane anew when it fails.
 */
import { closeFd } from "../../ffi/fd.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { openTun } from "../../ffi/tun.ts";
import { enableUdpOffloads, openUdpSocket } from "../../ffi/udp_socket.ts";
import { SystemError } from "../../ffi/errno.ts";
import type { Backend, Plan, SkippedPeer, Tunnel } from "../backend/backend.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { Dataplane, type DataplaneStatus } from "../dataplane/dataplane.ts";
import type { Offload } from "../dataplane/offloads.ts";
import type { PeerCounters } from "../dataplane/peer_table.ts";
import { errorText, SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Lease } from "../lease/lease.ts";
import { type IpAddress, ofFamily } from "../net/ip.ts";
import { logger } from "../log.ts";
import { Backoff, pause } from "../retry.ts";
import type { DataPlaneStatus } from "./status.ts";

const TUN_OFFLOADS = ["csum", "tso", "uso"] as const satisfies readonly Offload[];
const UDP_OFFLOADS = ["udp-segment", "udp-gro"] as const satisfies readonly Offload[];
const RESTART_FIRST_MS = 100;
const RESTART_MAX_MS = 30_000;

export interface DataPathOptions {
  readonly backend: Backend;
  readonly config: NetworkConfig;
  readonly link: OuterLink;
  readonly lease: Lease;
  readonly reconciler: Reconciler;
  /** Entry point of the packet loops' worker. */
  readonly workerUrl: URL;
  /** See `RunOptions`. */
  readonly offloads: "auto" | readonly Offload[];
}

/** The userspace part of a path that is up. */
interface OpenTunnel {
  readonly dataplane: Dataplane;
  /** Descriptors that are closed once the loops have ended. */
  readonly fds: readonly number[];
}

function outerAddress(link: OuterLink): IpAddress {
  const address = ofFamily(link.addresses, 4);
  if (address !== undefined) return address;
  throw new SelvageError("unsupported", `interface ${link.name} has no IPv4 address`, {
    hint: "Choose another interface with --iface.",
  });
}

/** Opens what the loops work on, and gives it back to the kernel if not all of it can be had. */
async function openTunnel(options: DataPathOptions, tunnel: Tunnel): Promise<OpenTunnel> {
  const address = outerAddress(options.link);
  options.reconciler.ensureNameFree(tunnel.device);
  const open: number[] = [];
  try {
    const own = (fd: number): number => {
      open.push(fd);
      return fd;
    };
    const udp_fd = own(openUdpSocket(address.toBytes(), tunnel.port));
    const isWanted = (one: Offload): boolean =>
      options.offloads === "auto" || options.offloads.includes(one);
    const tun = openTun(tunnel.device, TUN_OFFLOADS.filter(isWanted));
    const tun_fd = own(tun.fd);
    const udpOffloads = enableUdpOffloads(udp_fd, UDP_OFFLOADS.filter(isWanted));
    const icmp_fd = own(openRawSocket());
    const dataplane = await Dataplane.start({
      workerUrl: options.workerUrl,
      tun_fd,
      udp_fd,
      icmp_fd,
      tunAddress: options.lease.subnets[0]!.address,
      offloads: [...tun.offloads, ...udpOffloads],
    });
    return { dataplane, fds: open };
  } catch (error) {
    open.forEach(closeFd);
    throw explain(error, tunnel);
  }
}

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
  return error;
}

export class DataPath {
  readonly #options: DataPathOptions;
  readonly #tunnel: Tunnel | null;
  readonly #log = logger("data-path");
  readonly #closing = new AbortController();
  #open: OpenTunnel | null = null;
  #supervisor: Promise<void> = Promise.resolve();
  #plan: Plan;
  /** Peers that the plan has and the forwarding table cannot take. */
  #refused: readonly SkippedPeer[] = [];
  #lastStatus: DataplaneStatus | null = null;
  #restartCount = 0;

  private constructor(options: DataPathOptions) {
    this.#options = options;
    this.#tunnel = options.backend.tunnel(options.config);
    this.#plan = options.backend.plan({ ...options, peers: [] });
  }

  /**
   * Brings everything up that needs no peers. Throws, with nothing left behind, if a name or port
   * is taken or a privilege is missing.
   */
  static async open(options: DataPathOptions): Promise<DataPath> {
    const path = new DataPath(options);
    try {
      await path.#bringUp();
    } catch (error) {
      await path.close();
      throw error;
    }
    path.#supervisor = path.#supervise();
    return path;
  }

  async #bringUp(): Promise<void> {
    if (this.#tunnel !== null) {
      this.#open = await openTunnel(this.#options, this.#tunnel);
      this.#reportOffloads(this.#open.dataplane.status().offloads);
    }
    this.#carryOut();
  }

  #reportOffloads(active: readonly Offload[]): void {
    this.#log.info`offloads: ${active.join(", ") || "none"}`;
    const { offloads } = this.#options;
    const missing = offloads === "auto" ? [] : offloads.filter((one) => !active.includes(one));
    if (missing.length > 0) this.#log.warning`this kernel does not have ${missing.join(", ")}`;
  }

  /** Brings the kernel and the forwarding table in line with the plan. */
  #carryOut(): void {
    for (const problem of this.#options.reconciler.reconcile(this.#plan.kernel).problems) {
      this.#log.warning`${problem}`;
    }
    this.#refused = this.#open?.dataplane.apply(this.#plan.forwarding) ?? [];
  }

  /** Forwards to these peers from now on. */
  apply(peers: readonly Lease[]): void {
    this.#plan = this.#options.backend.plan({ ...this.#options, peers });
    // While the data plane is being started anew, the plan waits for it.
    if (this.#tunnel === null || this.#open !== null) this.#carryOut();
  }

  /** Starts the data plane anew whenever a loop ends unasked, for as long as the path is open. */
  async #supervise(): Promise<void> {
    const backoff = new Backoff(RESTART_FIRST_MS, RESTART_MAX_MS);
    while (this.#open !== null && !this.#closing.signal.aborted) {
      const aborted = new Promise<null>((resolve) =>
        this.#closing.signal.addEventListener("abort", () => resolve(null), { once: true })
      );
      const ended = await Promise.race([this.#open.dataplane.ended, aborted]);
      if (ended === null) return;
      this.#log.error`${ended.reason}; starting the data plane anew`;
      await this.#shutDown();
      await this.#restart(backoff);
    }
  }

  async #restart(backoff: Backoff): Promise<void> {
    while (!this.#closing.signal.aborted) {
      await pause(backoff.next_ms(), this.#closing.signal);
      if (this.#closing.signal.aborted) return;
      try {
        await this.#bringUp();
        this.#restartCount++;
        this.#log.info`packets are forwarded again`;
        return;
      } catch (error) {
        await this.#shutDown();
        this.#log.error`cannot start the data plane: ${errorText(error)}`;
      }
    }
  }

  async #shutDown(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    if (open === null) return;
    this.#lastStatus = open.dataplane.status();
    await open.dataplane.stop();
    open.fds.forEach(closeFd);
  }

  get device(): string | null {
    return this.#tunnel?.device ?? null;
  }

  get port(): number | null {
    return this.#tunnel?.port ?? null;
  }

  get mtu_bytes(): number {
    return this.#options.backend.mtu_bytes(this.#options.link);
  }

  get skipped(): readonly SkippedPeer[] {
    return [...this.#plan.skipped, ...this.#refused];
  }

  /** Counters since the data plane was last started; null where the kernel forwards. */
  status(): DataPlaneStatus | null {
    const counters = this.#open?.dataplane.status() ?? this.#lastStatus;
    if (counters === null) return null;
    return { ...counters, running: this.#open !== null, restartCount: this.#restartCount };
  }

  /** Counters of one peer by its lease key; null if it is not served. */
  peer(key: string): PeerCounters | null {
    return this.#open?.dataplane.peer(key) ?? null;
  }

  /** Takes everything down; the device goes with its descriptor. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#supervisor;
    await this.#shutDown();
    this.#options.reconciler.clear();
  }
}
