/**
 * From leases to packets: asks the backend for a plan and has it carried out, in the kernel, by the
 * data plane in user space, or by the user's commands.
 */
import type { Plan, ShownOptions, SkippedPeer, Tunnel, VtepMacs } from "../backend/backend.ts";
import { planGuard } from "../backend/guard/plan_guard.ts";
import { fallbackNotice } from "../backend/select.ts";
import type { Offload } from "../dataplane/offloads.ts";
import type { PeerCounters } from "../dataplane/peer_table.ts";
import type { DesiredTable } from "../kernel/firewall_state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Interest } from "../kernel/relevance.ts";
import type { DesiredIpip, DesiredVxlan } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import type { Miss } from "../netlink/neighbour.ts";
import { Retry } from "../retry.ts";
import type { Extension } from "./extension.ts";
import { type GuardPlan, KernelKeeper, type KernelKeeperOptions } from "./kernel_keeper.ts";
import type { Network } from "./network.ts";
import { Pace } from "./pace.ts";
import { SkippedLog } from "./skipped_log.ts";
import type { DataPlaneStatus, GuardStatus } from "./status.ts";
import { TunnelSupervisor } from "./tunnel_supervisor.ts";
import { TunnelWatch } from "./tunnel_watch.ts";

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 30_000;

export interface DataPathOptions extends Network, Omit<KernelKeeperOptions, "outerLink"> {
  readonly link: OuterLink;
  readonly vtepMacs: VtepMacs;
  readonly lease: Lease;
  /** The user's commands, started; null: the backend has none. Closed with the path. */
  readonly extension: Extension | null;
  /** Entry point of the packet loops' worker. */
  readonly workerUrl: URL;
  /** Every lease but our own, as of now. */
  readonly peers: () => readonly Lease[];
  /** Ends the opening. */
  readonly signal: AbortSignal;
  /** Told what the opening waits for, if it takes long. */
  readonly onLate: (text: string) => void;
  /** Told of a failure that only a new process can mend. */
  readonly onFatal: (error: unknown) => void;
  /** See `RunOptions`. */
  readonly offloads: "auto" | readonly Offload[];
  readonly trustsUnderlay: boolean;
  readonly allowsOutsideSources: boolean;
  /** Pairs of packet loops for each tunnel. */
  readonly workerCount: number;
  /** Whether firewall rules keep others out of the tunnel. */
  readonly isGuarded: boolean;
}

export class DataPath {
  #options: DataPathOptions;
  /** Empty where the kernel forwards. */
  readonly tunnels: readonly Tunnel[];
  /** null where the kernel forwards. */
  readonly #supervisor: TunnelSupervisor | null;
  readonly #keeper: KernelKeeper;
  readonly #skippedLog = new SkippedLog();
  #watch: TunnelWatch | null = null;
  #plan: Plan;
  /** Of how many peers the plan knows, also those that it leaves out. */
  #plannedCount = 0;
  readonly #pace = new Pace(() => this.#carryOutIfUp());
  /** Peers that the plan has and the forwarding table cannot take. */
  #refused: readonly SkippedPeer[] = [];
  readonly #retry = new Retry(() => this.#pace.run(), RETRY_FIRST_MS, RETRY_MAX_MS);
  #isClosing = false;
  /** Whether the kernel may hold something of ours. */
  #isInKernel = false;

  private constructor(options: DataPathOptions) {
    this.#options = options;
    const { backend, config, link, vtepMacs } = options;
    const tunnels = backend.tunnels(config, link, vtepMacs);
    this.tunnels = tunnels;
    this.#plan = backend.plan({ ...options, peers: [] });
    this.#keeper = new KernelKeeper({
      ...options,
      outerLink: link,
      onChecked: () => {
        this.#logSkipped();
        options.onChecked();
      },
    });
    this.#supervisor = tunnels.length === 0 ? null : new TunnelSupervisor({
      ...options,
      tunnels,
      queueCount: options.workerCount,
      onOpen: () => this.#begin(),
      onClosed: () => this.#keeper.suspend(),
    });
  }

  /**
   * Brings everything up that needs no peers. Throws, with nothing left behind and nothing of
   * others' touched, if a name or port is taken or a privilege is missing.
   */
  static async open(options: DataPathOptions): Promise<DataPath> {
    const path = new DataPath(options);
    const supervisor = path.#supervisor;
    try {
      if (supervisor === null) path.#begin();
      else await supervisor.open();
    } catch (error) {
      await path.close();
      throw error;
    }
    if (supervisor !== null) {
      supervisor.begin(options.onFatal);
      path.#watch = new TunnelWatch({
        tunnels: path.tunnels,
        dataplane: () => supervisor.dataplane,
        peers: () => path.#plan.forwarding,
      });
    }
    return path;
  }

  /** What the kernel has of an earlier data plane is gone, or may be. */
  #begin(): void {
    this.#isInKernel = true;
    this.#planAndApply();
    this.#keeper.begin(this.#plan.kernel, this.#guardPlan);
    this.#logSkipped();
  }

  /** Brings everything in line with the peers of now. */
  #carryOut(): void {
    this.#planAndApply();
    this.#keeper.change(this.#plan.kernel, this.#guardPlan);
    this.#logSkipped();
    this.#options.onChecked();
  }

  get #guardPlan(): GuardPlan | undefined {
    return this.#options.isGuarded ? (indexes) => this.#planGuard(indexes) : undefined;
  }

  #planGuard(linkIndexes: ReadonlyMap<string, number>): DesiredTable[] {
    const { backend, config, peers } = this.#options;
    return planGuard({
      ...this.#options,
      peers: peers(),
      served: this.#plan.served,
      tunnels: this.tunnels,
      links: this.#plan.kernel.links,
      linkIndexes,
      isDirect: backend.isDirect?.(config) ?? false,
      uid: process.geteuid!(),
    });
  }

  /** Peers that the user's commands leave out are logged where the commands run. */
  #logSkipped(): void {
    this.#skippedLog.tell(this.#left);
  }

  /** All but the kernel; the peers come first, and are served also while that cannot be read. */
  #planAndApply(): void {
    const { backend, peers, extension } = this.#options;
    const known = peers();
    this.#plan = backend.plan({ ...this.#options, peers: known });
    this.#plannedCount = known.length;
    this.#refused = this.#supervisor?.dataplane?.apply(this.#plan.forwarding) ?? [];
    extension?.update(this.#plan.commandPeers ?? []);
    this.#retry.settle(this.#refused.map(({ key, reason }) => `${key}: ${reason}`).join("\n"));
  }

  /** While the data plane is being started anew, everything else waits. */
  #carryOutIfUp(): void {
    if (this.#isClosing) return;
    if (this.#supervisor === null || this.#supervisor.dataplane !== null) this.#carryOut();
  }

  /** Says that the peers have changed. Many changes in a row are carried out together. */
  update(): void {
    this.#pace.run();
  }

  /** Says that other hosts than before may be on the outer link, which is the same. */
  changeWays(link: OuterLink): void {
    const relevant = ({ ways, localAddresses }: OuterLink) =>
      JSON.stringify([ways, localAddresses]);
    if (relevant(link) === relevant(this.#options.link)) return;
    this.#options = { ...this.#options, link };
    this.#carryOutIfUp();
  }

  /** Says that something of ours in the kernel may have been changed by another. */
  check(): void {
    this.#keeper.check();
  }

  /** What notifications of the kernel may concern. */
  get interest(): Interest {
    return this.#keeper.interest;
  }

  /** Gives the kernel what it asks for. */
  answer(misses: readonly Miss[]): void {
    this.#keeper.answer(misses);
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

  /** Peers that no packets can be carried to, but for those that commands see to. */
  get #left(): readonly SkippedPeer[] {
    return [...this.#plan.skipped, ...this.#refused, ...this.#keeper.failed];
  }

  get skipped(): readonly SkippedPeer[] {
    return [...this.#left, ...this.#options.extension?.failed ?? []];
  }

  /** How many peers are served. */
  get peerCount(): number {
    const left = new Set(this.skipped.map(({ key }) => key));
    return this.#plannedCount - left.size;
  }

  /** What is not as it should be, one sentence each; tried again by and by. */
  get problems(): readonly string[] {
    return [...this.#keeper.problems, ...(this.#options.extension?.problems ?? [])];
  }

  /** null: the backend has nothing to guard. */
  get guard(): GuardStatus | null {
    const { backend, isGuarded } = this.#options;
    if (isGuarded) return this.#keeper.guard;
    const isCarrying = !backend.carriesNothing && backend.commands === undefined;
    return isCarrying ? { state: "off", drops: {} } : null;
  }

  /** What it was opened for. */
  get origin(): Pick<DataPathOptions, "config" | "lease" | "link"> {
    return this.#options;
  }

  /** What keeps packets from flowing to any peer, one sentence each; empty: the path stands. */
  get missing(): readonly string[] {
    return this.#keeper.missing;
  }

  /**
   * Facts that an operator should know and that are no problems, one sentence or two each; `now_ms`
   * since 1970.
   */
  notices(now_ms: number): readonly string[] {
    const { guardFault } = this.#keeper;
    const guard = guardFault === null ? [] : [guardFault];
    const fallback = fallbackNotice(this.#options.config, this.#options.backend);
    return [
      ...(fallback === null ? [] : [fallback]),
      ...guard,
      ...(this.#watch?.notices(now_ms) ?? []),
    ];
  }

  /** Counters since the data plane was last started; null where the kernel forwards. */
  status(): DataPlaneStatus | null {
    return this.#supervisor?.status() ?? null;
  }

  /** Counters of one peer by its lease key; null if it is not served. */
  peer(key: string): PeerCounters | null {
    return this.#supervisor?.dataplane?.peer(key) ?? null;
  }

  /**
   * Ends the forwarding in user space; its devices go with their descriptors. What the kernel
   * forwards it goes on forwarding, unless `isCleared`. The overlay's addresses stay unreachable
   * where no route leads to them, unless `isForGood` as well. Throws if a loop hangs.
   */
  async close({ isCleared = false, isForGood = false } = {}): Promise<void> {
    this.#isClosing = true;
    this.#retry.stop();
    this.#watch?.stop();
    this.#pace.stop();
    this.#keeper.stop();
    await this.#supervisor?.close();
    await this.#options.extension?.close(isCleared);
    // A path that never came up has nothing there: what is there is another's.
    if (this.#isInKernel && (isCleared || this.tunnels.length > 0)) {
      this.#keeper.clear(isCleared && isForGood);
    }
    this.#isInKernel = false;
  }
}
