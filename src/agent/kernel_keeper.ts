/**
 * Keeps the kernel as a plan has it, tables and firewall rules: has them reconciled when the plan
 * changes, when the kernel tells of a change, now and then all the same, and again and again while
 * something cannot be done.
 */
import type { SkippedPeer } from "../backend/backend.ts";
import { joinForwardChains } from "../backend/guard/plan_guard.ts";
import { errorText } from "../errors.ts";
import { deviceSysctls, forwardingSysctls } from "../kernel/device_sysctls.ts";
import type { DesiredTable } from "../kernel/firewall_state.ts";
import {
  type DesiredForwarding,
  type ForwardAccepts,
  NO_FORWARDING,
} from "../kernel/forward_accept.ts";
import type { Firewall } from "../kernel/firewall.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Interest } from "../kernel/relevance.ts";
import {
  type DesiredBlackhole,
  type DesiredSysctl,
  type KernelState,
  NO_KERNEL_STATE,
} from "../kernel/state.ts";
import { areSysctlsRight } from "../kernel/sysctl.ts";
import { logger } from "../log.ts";
import type { Miss } from "../netlink/neighbour.ts";
import { Retry } from "../retry.ts";
import { Pace } from "./pace.ts";
import type { GuardStatus } from "./status.ts";
import { RepeatLog } from "./repeat_log.ts";

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 30_000;
/** How often the kernel is compared with the plan even if it reported no change. */
const CHECK_MS = 300_000;
/** How often sysctls and iptables-legacy are read, whose changes the kernel does not report. */
const UNREPORTED_CHECK_MS = 10_000;
/** Changes by other programs must be mended within a second, also if a check takes half of that. */
const CHECK_WAIT_MAX_MS = 250;

export interface KernelKeeperOptions {
  readonly reconciler: Reconciler;
  readonly firewall: Firewall;
  readonly firewallTables: readonly DesiredTable[];
  readonly forwardAccepts: Pick<ForwardAccepts, "reconcile">;
  /** What the forward chains of others must let pass. */
  readonly forwarding: Omit<DesiredForwarding, "linkNames">;
  /** Of the host, beside those of the plan. */
  readonly sysctls: readonly DesiredSysctl[];
  /** Likewise. */
  readonly blackholes: readonly DesiredBlackhole[];
  readonly outerLink: Interest["outerLink"];
  /** Whether the store was read: before that, what an earlier run left may be of use. */
  readonly arePeersKnown: () => boolean;
  /** Told after each check: there is nothing to do until the next. */
  readonly onChecked: () => void;
}

/** Firewall tables that change with the peers, given the indexes of the links that are there. */
export type GuardPlan = (linkIndexes: ReadonlyMap<string, number>) => readonly DesiredTable[];

const NO_GUARD: GuardPlan = () => [];

export class KernelKeeper {
  readonly #options: KernelKeeperOptions;
  readonly #log = logger("data-path");
  readonly #mendLog = new RepeatLog((text) => this.#log.warning`${text}`);
  readonly #pace = new Pace(() => this.#checkNow(), CHECK_WAIT_MAX_MS);
  readonly #retry = new Retry(() => this.check(), RETRY_FIRST_MS, RETRY_MAX_MS);
  readonly #timer = setInterval(() => this.check(), CHECK_MS);
  readonly #unreportedTimer = setInterval(() => this.#checkUnreported(), UNREPORTED_CHECK_MS);
  #desired: KernelState = NO_KERNEL_STATE;
  #planGuard = NO_GUARD;
  /** The last plan, and the indexes that it was made for; null: it must be planned again. */
  #guard: readonly DesiredTable[] = [];
  #guardIndexes: ReadonlyMap<string, number> | null = null;
  /** Made from the plan when notifications are to be judged. */
  #interest: Interest | null = null;
  #isActive = false;
  /**
   * Whether the log has said that the rules are in place: each change of peers changes the guard's
   * rules.
   */
  #isFirewallTold = false;
  /** Peers that the kernel does not take, and why. */
  #failed: readonly SkippedPeer[] = [];
  #problems: readonly string[] = [];
  #missing: readonly string[] = [];
  #firewallProblems: readonly string[] = [];
  /** The same object while nothing of it changes. */
  #forwarding: DesiredForwarding = NO_FORWARDING;
  #forwardProblems: readonly string[] = [];
  /** Why the guard is not there; null: it is, or is not desired. */
  #guardFault: string | null = null;

  constructor(options: KernelKeeperOptions) {
    this.#options = options;
  }

  /**
   * Begins to keep the kernel in this state, or begins anew. The guard stands before a tunnel does,
   * and is planned again when the tunnel's index is known.
   */
  begin(kernel: KernelState, planGuard = NO_GUARD): void {
    this.#isActive = true;
    this.#setDesired(kernel, planGuard);
    this.#findLinks();
    this.#reconcileFirewall();
    this.#reconcileTables();
    if (this.#isGuardOutdated) this.#reconcileFirewall();
    this.#reconcileForwarding();
    this.#settle();
  }

  /** Devices of an earlier run have rules already, which are to stay as they are. */
  #findLinks(): void {
    try {
      this.#options.reconciler.findLinks(this.#desired.links.map(({ name }) => name));
    } catch {
      // The reconciler asks the kernel the same next, and reports a failure.
    }
  }

  /** Leaves the kernel as it is until the next `begin`. */
  suspend(): void {
    this.#isActive = false;
  }

  /** Has the kernel be so from now on. */
  change(kernel: KernelState, planGuard = NO_GUARD): void {
    this.#setDesired(kernel, planGuard);
    if (planGuard !== NO_GUARD) this.#reconcileFirewall();
    this.#reconcileTables();
    if (this.#isGuardOutdated) this.#reconcileFirewall();
    this.#settle();
  }

  /** Says that something of ours in the kernel may have been changed by another. */
  check(): void {
    this.#pace.run();
  }

  get #isGuardOutdated(): boolean {
    return this.#planGuard !== NO_GUARD &&
      this.#guardIndexes !== this.#options.reconciler.linkIndexes;
  }

  #setDesired(kernel: KernelState, planGuard: GuardPlan): void {
    this.#planGuard = planGuard;
    this.#guardIndexes = null;
    const { sysctls, blackholes } = this.#options;
    const linkNames = kernel.links.map(({ name }) => name);
    if (`${linkNames}` !== `${this.#forwarding.linkNames}` || this.#forwarding === NO_FORWARDING) {
      this.#forwarding = { ...this.#options.forwarding, linkNames };
    }
    const forwarding = forwardingSysctls(kernel.links, sysctls);
    this.#desired = {
      ...kernel,
      blackholes,
      sysctls: [...kernel.sysctls, ...sysctls, ...forwarding],
    };
  }

  #checkNow(): void {
    if (!this.#isActive) return;
    this.#reconcileTables(true);
    this.#reconcileFirewall(true);
    this.#reconcileForwarding(true);
    this.#settle();
    this.#options.onChecked();
  }

  #checkUnreported(): void {
    if (!this.#isActive) return;
    const before = this.#forwardProblems;
    this.#reconcileForwarding(true);
    if (`${before}` !== `${this.#forwardProblems}`) this.#settle();
    const { links, sysctls } = this.#desired;
    const ofDevices = links.flatMap((link) => deviceSysctls(link, link.name));
    // A value that cannot be set is a problem, and is tried again without this.
    const isRight = this.#problems.length > 0 || areSysctlsRight([...ofDevices, ...sysctls]);
    if (!isRight) this.check();
  }

  #reconcileTables(isCheck = false): void {
    const { reconciler, arePeersKnown } = this.#options;
    this.#interest = null;
    const [problemsBefore, leftBefore] = [this.#problems, this.#left];
    let changeCount = 0;
    try {
      const result = reconciler.reconcile(this.#desired, !arePeersKnown());
      changeCount = result.changeCount;
      this.#problems = result.problems;
      this.#missing = reconciler.missing;
      this.#failed = [...result.peerProblems].map(([key, reason]) => ({ key, reason }));
    } catch (error) {
      this.#problems = [errorText(error)];
      this.#missing = this.#problems;
    }
    this.#logNewProblems(this.#problems, problemsBefore);
    // Else it may be ours, that could not be done before.
    if (changeCount > 0 && isCheck && this.#left === leftBefore) this.#logMended(changeCount);
  }

  #logMended(changeCount: number): void {
    const shown = this.#options.reconciler.lastChanges;
    const restCount = changeCount - shown.length;
    const rest = restCount > 0 ? ` and ${restCount} more` : "";
    this.#mendLog
      .tell(
        `another program changed entries of ours in the kernel; mended: ${shown.join("; ")}${rest}`,
      );
  }

  #logNewProblems(problems: readonly string[], before: readonly string[]): void {
    for (const problem of problems) {
      if (!before.includes(problem)) this.#log.warning`${problem}`;
    }
    for (const problem of before) {
      if (!problems.includes(problem)) this.#log.info`no longer: ${problem}`;
    }
  }

  #reconcileFirewall(isCheck = false): void {
    const { firewall, firewallTables, reconciler, arePeersKnown } = this.#options;
    const isOutdated = this.#guardIndexes !== reconciler.linkIndexes;
    if (isOutdated) {
      this.#guardIndexes = reconciler.linkIndexes;
      this.#guard = this.#planGuard(reconciler.linkIndexes);
    }
    const tables = joinForwardChains(firewallTables, this.#guard);
    const { changeCount, problems } = firewall.reconcile(tables, !arePeersKnown());
    if (changeCount > 0 && isCheck && !isOutdated && this.#firewallProblems.length === 0) {
      this.#mendLog.tell("someone changed our firewall rules; they are as they should be again");
    } else if (changeCount > 0) {
      const done = tables.length > 0 ? "put in place" : "of an earlier run removed";
      if (!this.#isFirewallTold) this.#log.info`firewall rules ${done}`;
      this.#isFirewallTold = true;
    }
    const { guardFault } = firewall;
    if (guardFault !== null && guardFault !== this.#guardFault) this.#log.warning`${guardFault}`;
    this.#guardFault = guardFault;
    this.#logNewProblems(problems, this.#firewallProblems);
    this.#firewallProblems = problems;
  }

  /** Makes the forward chains of others let the overlay pass. */
  #reconcileForwarding(isCheck = false): void {
    const { changeCount, problems } = this.#options.forwardAccepts.reconcile(this.#forwarding);
    const what = "our accept rules at the head of forward chains that drop by default";
    if (changeCount > 0 && isCheck) this.#mendLog.tell(`forward chains changed; renewed ${what}`);
    else if (changeCount > 0) this.#log.info`updated ${what}`;
    this.#logNewProblems(problems, this.#forwardProblems);
    this.#forwardProblems = problems;
  }

  /** What of the tables is not as desired, in words. */
  get #left(): string {
    const failed = this.#failed.map(({ key, reason }) => `${key}: ${reason}`);
    return [...this.#problems, ...failed].join("\n");
  }

  /** Has all of it tried again while something is left to do. */
  #settle(): void {
    const problems = [...this.#firewallProblems, ...this.#forwardProblems];
    this.#retry.settle([this.#left, ...problems].filter(Boolean).join("\n"));
  }

  /** What notifications of the kernel may concern. */
  get interest(): Interest {
    const { reconciler, outerLink } = this.#options;
    return this.#interest ??= reconciler.interest(this.#desired, outerLink);
  }

  /** Gives the kernel what it asks for. */
  answer(misses: readonly Miss[]): void {
    if (!this.#isActive) return;
    try {
      this.#options.reconciler.answer(misses, this.interest);
    } catch (error) {
      this.#log.warning`cannot answer the kernel: ${errorText(error)}`;
    }
  }

  /** What is not as it should be, one sentence each; tried again by and by. */
  get problems(): readonly string[] {
    return [...this.#problems, ...this.#firewallProblems, ...this.#forwardProblems];
  }

  /** What the guard does; null: there is none to keep. */
  get guard(): GuardStatus | null {
    if (this.#guard.length === 0) return null;
    if (this.#guardFault !== null) return { state: "missing", drops: {} };
    try {
      return { state: "on", drops: this.#options.firewall.readGuardDrops() };
    } catch (error) {
      this.#log.warning`cannot read the guard's counters: ${errorText(error)}`;
      return { state: "on", drops: {} };
    }
  }

  /** Why the guard is missing, with what to do; null: it is in place, or is not desired. */
  get guardFault(): string | null {
    return this.#guardFault;
  }

  /** Which devices, addresses and routes that serve all are missing: among the problems. */
  get missing(): readonly string[] {
    return this.#missing;
  }

  /** Peers that the kernel does not take, and why; tried again by and by. */
  get failed(): readonly SkippedPeer[] {
    return this.#failed;
  }

  /** Ends; what was put into the kernel stays. */
  stop(): void {
    this.#isActive = false;
    clearInterval(this.#timer);
    clearInterval(this.#unreportedTimer);
    this.#mendLog.stop();
    this.#pace.stop();
    this.#retry.stop();
  }

  /**
   * Removes everything of ours from the kernel, after `stop`. The overlay's addresses stay
   * unreachable, unless `isForGood`. What cannot be removed is logged.
   */
  clear(isForGood: boolean): void {
    const { reconciler, firewall, forwardAccepts } = this.#options;
    const kept = isForGood ? [] : this.#options.blackholes.filter((one) => one.isAnswered);
    try {
      this.#logNewProblems(reconciler.clear(kept).problems, []);
    } catch (error) {
      this.#log.warning`cannot clear the kernel's tables: ${errorText(error)}`;
    }
    this.#logNewProblems(firewall.reconcile([]).problems, []);
    this.#logNewProblems(forwardAccepts.reconcile(NO_FORWARDING).problems, []);
  }
}
