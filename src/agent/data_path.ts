/**
 * From leases to packets: asks the backend for a plan and has it carried out, by the reconciler in
 * the kernel and by the data plane in user space. What cannot be done is tried again; a data plane
 * that fails is started anew.
 */
import type { Plan, ShownOptions, SkippedPeer, Tunnel, VtepMacs } from "../backend/backend.ts";
import type { DataplaneStatus } from "../dataplane/dataplane.ts";
import type { Offload } from "../dataplane/offloads.ts";
import type { PeerCounters } from "../dataplane/peer_table.ts";
import { errorText } from "../errors.ts";
import type { DesiredTable } from "../kernel/firewall_state.ts";
import type { Firewall } from "../kernel/firewall.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Interest } from "../kernel/relevance.ts";
import type { DesiredIpip, DesiredSysctl, DesiredVxlan, KernelState } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import { logger } from "../log.ts";
import type { Miss } from "../netlink/neighbour.ts";
import { Backoff, pause } from "../retry.ts";
import type { Extension } from "./extension.ts";
import { Pace } from "./pace.ts";
import type { Network } from "./network.ts";
import { closeTunnels, type OpenTunnels, openTunnels } from "./open_tunnel.ts";
import type { DataPlaneStatus } from "./status.ts";

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 30_000;
/** How often the kernel is held against the plan though it told of no change. */
const CHECK_MS = 300_000;
/** What another changed is to be mended within a second, also if a check takes half of that. */
const CHECK_WAIT_MAX_MS = 400;
/** How often it is asked whether paths have turned out narrow. */
const NARROW_PATHS_MS = 10_000;

export interface DataPathOptions extends Network {
  readonly link: OuterLink;
  readonly vtepMacs: VtepMacs;
  readonly lease: Lease;
  readonly reconciler: Reconciler;
  readonly firewall: Firewall;
  readonly firewallTables: readonly DesiredTable[];
  /** Of the host, beside those of the backend. */
  readonly sysctls: readonly DesiredSysctl[];
  /** The user's commands, started; null: the backend has none. Closed with the path. */
  readonly extension: Extension | null;
  /** Entry point of the packet loops' worker. */
  readonly workerUrl: URL;
  /** Every lease but our own, as of now. */
  readonly peers: () => readonly Lease[];
  /** Whether the store was read: before that, what an earlier run left may be of use. */
  readonly arePeersKnown: () => boolean;
  /** Told of a failure that only a new process can mend. */
  readonly onFatal: (error: unknown) => void;
  /** Told after each check of the kernel: there is nothing to do until the next. */
  readonly onChecked: () => void;
  /** See `RunOptions`. */
  readonly offloads: "auto" | readonly Offload[];
  /** Pairs of packet loops for each tunnel. */
  readonly workerCount: number;
}

export class DataPath {
  #options: DataPathOptions;
  /** Empty where the kernel forwards. */
  readonly tunnels: readonly Tunnel[];
  readonly #log = logger("data-path");
  readonly #closing = new AbortController();
  #open: OpenTunnels | null = null;
  #supervisor: Promise<void> = Promise.resolve();
  #plan: Plan;
  /** Of how many peers the plan knows, also those that it leaves out. */
  #plannedCount = 0;
  readonly #pace: Pace;
  readonly #checkPace: Pace;
  /** Made from the plan when notifications are to be judged. */
  #interest: Interest | null = null;
  /** Peers that the plan has and the forwarding table cannot take. */
  #refused: readonly SkippedPeer[] = [];
  /** Peers that the kernel does not take, and why. */
  #failed: readonly SkippedPeer[] = [];
  #problems: readonly string[] = [];
  #firewallProblems: readonly string[] = [];
  #retry: ReturnType<typeof setTimeout> | undefined;
  #check: ReturnType<typeof setInterval> | undefined;
  #narrowPathsTimer: ReturnType<typeof setInterval> | undefined;
  readonly #retryBackoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
  #lastStatus: DataplaneStatus | null = null;
  #narrowPathCount = 0;
  /** What was said already, by lease key. */
  readonly #narrowPaths = new Map<string, number>();
  #restartCount = 0;
  /** Whether the kernel may hold something of ours. */
  #isInKernel = false;
  /** Whether the kernel was as the plan has it, so that a difference is another's doing. */
  #isSettled = false;

  private constructor(options: DataPathOptions) {
    this.#options = options;
    const { backend, config, link, vtepMacs } = options;
    this.tunnels = backend.tunnels(config, link, vtepMacs);
    this.#plan = backend.plan({ ...options, peers: [] });
    this.#pace = new Pace(() => this.#carryOutIfUp());
    this.#checkPace = new Pace(() => this.#checkKernel(), CHECK_WAIT_MAX_MS);
  }

  /**
   * Brings everything up that needs no peers. Throws, with nothing left behind and nothing of
   * others' touched, if a name or port is taken or a privilege is missing.
   */
  static async open(options: DataPathOptions): Promise<DataPath> {
    const path = new DataPath(options);
    try {
      await path.#bringUp();
    } catch (error) {
      await path.close();
      throw error;
    }
    path.#supervisor = path.#supervise().catch(options.onFatal);
    path.#check = setInterval(() => path.check(), CHECK_MS);
    if (path.tunnels.length > 0) {
      path.#narrowPathsTimer = setInterval(() => path.#reportNarrowPaths(), NARROW_PATHS_MS);
    }
    return path;
  }

  async #bringUp(): Promise<void> {
    const { reconciler, workerCount: queueCount } = this.#options;
    const { tunnels } = this;
    for (const { device } of tunnels) reconciler.ensureNameFree(device);
    if (tunnels.length > 0) {
      this.#open = await openTunnels({ ...this.#options, tunnels, queueCount });
      this.#reportOffloads(this.#open.dataplane.status().offloads);
      this.#narrowPathCount = 0;
    }
    this.#isInKernel = true;
    this.#isSettled = false;
    this.#carryOut();
    this.#reconcileFirewall();
  }

  #reportOffloads(active: readonly Offload[]): void {
    this.#log.info`offloads: ${active.join(", ") || "none"}`;
    const { offloads } = this.#options;
    const missing = offloads === "auto" ? [] : offloads.filter((one) => !active.includes(one));
    if (missing.length > 0) this.#log.warning`this kernel does not have ${missing.join(", ")}`;
  }

  /** Brings forwarding table and kernel in line with the peers of now; retries what fails. */
  #carryOut(): void {
    const { backend, peers } = this.#options;
    const known = peers();
    this.#plan = backend.plan({ ...this.#options, peers: known });
    this.#plannedCount = known.length;
    // First the peers: they are served also while the kernel's tables cannot be read.
    this.#refused = this.#open?.dataplane.apply(this.#plan.forwarding) ?? [];
    this.#options.extension?.update(this.#plan.commandPeers ?? []);
    const problems = this.#reconcile();
    this.#report(problems);
    this.#retryIf(problems.length > 0 || this.#refused.length > 0 || this.#failed.length > 0);
  }

  /** Has everything carried out again after a while, if something is left to do. */
  #retryIf(isLeft: boolean): void {
    clearTimeout(this.#retry);
    if (!isLeft) return this.#retryBackoff.reset();
    this.#retry = setTimeout(() => this.#pace.run(), this.#retryBackoff.next_ms());
  }

  /** What the kernel is to have: the backend's plan and what the host needs besides. */
  get #desired(): KernelState {
    const { kernel } = this.#plan;
    return { ...kernel, sysctls: [...kernel.sysctls, ...this.#options.sysctls] };
  }

  #reconcile(isCheck = false): readonly string[] {
    const { reconciler, arePeersKnown } = this.#options;
    this.#interest = null;
    try {
      const { changeCount, problems, peerProblems } = reconciler.reconcile(
        this.#desired,
        !arePeersKnown(),
      );
      if (changeCount > 0 && isCheck && this.#isSettled) {
        const shown = reconciler.lastChanges;
        const rest = changeCount > shown.length ? ` and ${changeCount - shown.length} more` : "";
        this.#log.warning`someone changed what is ours in the kernel; mended: ${
          shown.join("; ")
        }${rest}`;
      }
      this.#isSettled = problems.length === 0;
      this.#failed = [...peerProblems].map(([key, reason]) => ({ key, reason }));
      return problems;
    } catch (error) {
      return [errorText(error)];
    }
  }

  #reconcileFirewall(isCheck = false): void {
    const { firewall, firewallTables } = this.#options;
    const result = firewall.reconcile(firewallTables);
    const { changeCount } = result;
    // A kernel without nftables accepts what it forwards; only masquerading is missed there.
    const isNeeded = firewallTables.some(({ chains }) =>
      chains.some(({ hook }) => hook === "nat postrouting")
    );
    const problems = isNeeded ? result.problems : [];
    if (changeCount > 0 && isCheck) {
      this.#log.warning`someone changed our firewall rules; they are in place again`;
    } else if (changeCount > 0) {
      this.#log.info`firewall rules put in place`;
    }
    if (problems.join() !== this.#firewallProblems.join()) {
      for (const problem of problems) this.#log.warning`${problem}`;
    }
    this.#firewallProblems = problems;
  }

  /** Says that something of ours in the kernel may have been changed by another. */
  check(): void {
    this.#checkPace.run();
  }

  #checkKernel(): void {
    if (!this.#isUp) return;
    const problems = this.#reconcile(true);
    this.#report(problems);
    this.#reconcileFirewall(true);
    this.#retryIf(problems.length > 0 || this.#failed.length > 0 || this.#refused.length > 0);
    this.#options.onChecked();
  }

  /** What notifications of the kernel may concern. */
  get interest(): Interest {
    const { reconciler, link } = this.#options;
    return this.#interest ??= reconciler.interest(this.#plan.kernel, link);
  }

  /** Gives the kernel what it asks for. */
  answer(misses: readonly Miss[]): void {
    if (!this.#isUp) return;
    try {
      this.#options.reconciler.answer(misses, this.interest);
    } catch (error) {
      this.#log.warning`cannot answer the kernel: ${errorText(error)}`;
    }
  }

  /** Says once of each peer that its path carries less than the MTU of the tunnel says. */
  #reportNarrowPaths(): void {
    const plane = this.#open?.dataplane;
    const count = plane?.status().narrowPaths ?? 0;
    if (plane === undefined || count === this.#narrowPathCount) return;
    this.#narrowPathCount = count;
    // Of peers that are gone nothing is kept for long.
    if (this.#narrowPaths.size > this.#plan.forwarding.length) this.#narrowPaths.clear();
    for (const { key } of this.#plan.forwarding) {
      const mtu_bytes = plane.peer(key)?.pathMtu_bytes ?? null;
      if (mtu_bytes === null || this.#narrowPaths.get(key) === mtu_bytes) continue;
      this.#narrowPaths.set(key, mtu_bytes);
      this.#log.warning`the path to ${key} carries packets of ${mtu_bytes} bytes at most`;
    }
  }

  #report(problems: readonly string[]): void {
    if (problems.join() !== this.#problems.join()) {
      for (const problem of problems) this.#log.warning`${problem}`;
    }
    this.#problems = problems;
  }

  /** False while the data plane is being started anew, for which everything else waits. */
  get #isUp(): boolean {
    return !this.#closing.signal.aborted && (this.tunnels.length === 0 || this.#open !== null);
  }

  #carryOutIfUp(): void {
    if (this.#isUp) this.#carryOut();
  }

  /** Says that the peers have changed. Many changes in a row are carried out together. */
  update(): void {
    this.#pace.run();
  }

  /** Says that other hosts than before are on the outer link, which is the same. */
  changeWays(link: OuterLink): void {
    if (JSON.stringify(link.ways) === JSON.stringify(this.#options.link.ways)) return;
    this.#options = { ...this.#options, link };
    this.#pace.run();
  }

  /** Starts the data plane anew whenever a loop ends unasked, for as long as the path is open. */
  async #supervise(): Promise<void> {
    const { signal } = this.#closing;
    const closed = new Promise<null>((resolve) =>
      signal.addEventListener("abort", () => resolve(null), { once: true })
    );
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    while (this.#open !== null && !signal.aborted) {
      const start_ms = performance.now();
      const ended = await Promise.race([this.#open.dataplane.ended, closed]);
      if (ended === null) return;
      this.#log.error`${ended.reason}; starting the data plane anew`;
      if (performance.now() - start_ms > RETRY_MAX_MS) backoff.reset();
      await this.#shutDown();
      await this.#restart(backoff);
    }
  }

  async #restart(backoff: Backoff): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await pause(backoff.next_ms(), signal);
      if (signal.aborted) return;
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
    await closeTunnels(open);
  }

  get mtu_bytes(): number {
    return this.#options.backend.mtu_bytes(this.#options.config, this.#options.link);
  }

  /** Devices of the plan that the kernel forwards through. */
  get devices(): readonly (DesiredVxlan | DesiredIpip)[] {
    return this.#plan.kernel.links.filter((link) => link.kind !== "tun");
  }

  get shownOptions(): ShownOptions {
    const { backend, config } = this.#options;
    return backend.shownOptions?.(config) ?? { generation: null, isDirectRouting: false };
  }

  get skipped(): readonly SkippedPeer[] {
    const commanded = this.#options.extension?.failed ?? [];
    return [...this.#plan.skipped, ...this.#refused, ...this.#failed, ...commanded];
  }

  /** How many peers are served. */
  get peerCount(): number {
    const left = new Set(this.skipped.map(({ key }) => key));
    return this.#plannedCount - left.size;
  }

  /** What in the kernel is not as it should be, one sentence each; tried again by and by. */
  get problems(): readonly string[] {
    const commanded = this.#options.extension?.problems ?? [];
    return [...this.#problems, ...this.#firewallProblems, ...commanded];
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

  /**
   * Ends the forwarding in user space; its devices go with their descriptors. What the kernel
   * forwards it goes on forwarding, unless `isCleared`. Throws if a loop hangs.
   */
  async close({ isCleared = false } = {}): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#retry);
    clearInterval(this.#check);
    clearInterval(this.#narrowPathsTimer);
    this.#pace.stop();
    this.#checkPace.stop();
    await this.#supervisor;
    await this.#shutDown();
    await this.#options.extension?.close(isCleared);
    // A path that never came up has nothing there: what is there is another's.
    if (this.#isInKernel && (isCleared || this.tunnels.length > 0)) {
      this.#options.reconciler.clear();
      this.#options.firewall.reconcile([]);
    }
    this.#isInKernel = false;
  }
}
