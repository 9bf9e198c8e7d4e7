/**
 * Follows the outer interface: another MTU or index, and, if the address in use cannot be used any
 * more, another address or another interface.
 */
import { adviceText, errorText, SelvageError } from "../errors.ts";
import {
  hasSameAddresses,
  type HeldLink,
  isSameOuterLink,
  type OuterLink,
  outerLinkChanges,
} from "../kernel/outer_link.ts";
import { logger } from "../log.ts";
import type { Family } from "../net/ip.ts";
import { Retry } from "../retry.ts";
import { Pace } from "./pace.ts";

/**
 * The effect of a change must show within a second, also if the check takes a part of that second.
 */
const WAIT_MAX_MS = 250;
/**
 * How often to look while no interface can be chosen: the kernel does not report every change that
 * may make one usable.
 */
const RETRY_MS = 1_000;
/**
 * How long an address must be gone before another takes its place. Programs that set interfaces up
 * remove addresses and add them again, one by one and in any order.
 */
const GRACE_MS = 1_000;

export interface OuterLinkWatchOptions {
  /**
   * Asks the kernel for a link with addresses of these families, if possible the one in use until
   * now; throws if there is none.
   */
  readonly choose: (families: readonly Family[], held: HeldLink | null) => OuterLink;
  /** The link of the last run; null: that is not known. */
  readonly held: HeldLink | null;
  /** What the network has of it; null: that is not known, and nothing follows the interface. */
  readonly families: () => readonly Family[] | null;
  /** Told of another interface, address or MTU. */
  readonly onMoved: (link: OuterLink) => void;
  /** Told of the same, which may have other hosts on it than before. */
  readonly onSame: (link: OuterLink) => void;
  /** Told when packets can leave by the same again, after they could not. */
  readonly onBack: () => void;
}

export class OuterLinkWatch {
  readonly #options: OuterLinkWatchOptions;
  readonly #log = logger("agent");
  readonly #pace = new Pace(() => this.#checkNow(), WAIT_MAX_MS);
  readonly #retry: Retry;
  readonly #grace_ms: number;
  #link: OuterLink;
  #problem: string | null = null;
  /** Until when, on the monotonic clock, other addresses are not taken up; null: none are there. */
  #graceEnd_ms: number | null = null;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;

  /** Chooses, and throws if there is no interface that fits. `retry_ms`: while there is none. */
  constructor(options: OuterLinkWatchOptions, retry_ms = RETRY_MS, grace_ms = GRACE_MS) {
    this.#options = options;
    this.#grace_ms = grace_ms;
    this.#retry = new Retry(() => this.check(), retry_ms, retry_ms);
    this.#link = options.choose([4], options.held);
  }

  /** The last that there was. */
  get link(): OuterLink {
    return this.#link;
  }

  /** Why the interface is not what it was; null: it is. */
  get problem(): string | null {
    return this.#problem;
  }

  /** As of now, for whoever waits until it is as it must be: an address may come late. */
  refresh(): OuterLink {
    try {
      this.#link = this.#look([4]);
    } catch (error) {
      this.#log.debug`outer interface: ${errorText(error)}`;
    }
    return this.#link;
  }

  /**
   * Whether it is not what it was then. An IPv6 address that comes or goes where the network has
   * none is no move; the IPv4 address is what the node is known by.
   */
  hasMovedFrom(before: OuterLink): boolean {
    return !isSameOuterLink(this.#link, before, this.#comparedFamilies);
  }

  get #comparedFamilies(): readonly Family[] {
    return [...new Set<Family>([4, ...this.#options.families() ?? [6]])];
  }

  /**
   * The link to use now. Throws if there is none, and for a while if there is only one with other
   * addresses: other hosts know this one by its address, and it may be back in a moment.
   */
  #look(families: readonly Family[]): OuterLink {
    const before = this.#link;
    const { name, addresses } = before;
    let link: OuterLink;
    try {
      link = this.#options.choose(families, { name, addresses, isInUse: true });
    } catch (error) {
      this.#endGrace();
      throw error;
    }
    const isSameHost = hasSameAddresses(link, before, this.#comparedFamilies);
    if (!isSameHost) this.#awaitGrace(before, link);
    this.#endGrace();
    return link;
  }

  /** Throws until the addresses before have been gone for long enough. */
  #awaitGrace(before: OuterLink, link: OuterLink): void {
    const now_ms = performance.now();
    if (this.#graceEnd_ms === null) {
      this.#graceEnd_ms = now_ms + this.#grace_ms;
      this.#graceTimer = setTimeout(() => this.check(), this.#grace_ms + 1);
    }
    if (now_ms >= this.#graceEnd_ms) return;
    const changes = outerLinkChanges(before, link, this.#comparedFamilies);
    throw new SelvageError(
      "unavailable",
      "it is down, or its address is gone. If that lasts for a second, this host goes on " +
        `with ${changes}`,
    );
  }

  #endGrace(): void {
    clearTimeout(this.#graceTimer);
    this.#graceEnd_ms = null;
  }

  /** Says that it may have changed. */
  check(): void {
    this.#pace.run();
  }

  #checkNow(): void {
    const families = this.#options.families();
    if (families === null) return;
    let link: OuterLink;
    try {
      link = this.#look(families);
    } catch (error) {
      // It may come back; until then all stays as it is.
      return this.#setProblem(`outer interface ${this.#link.name}: ${adviceText(error)}`);
    }
    const wasAway = this.#problem !== null;
    const before = this.#link;
    this.#link = link;
    const hasMoved = this.hasMovedFrom(before);
    if (hasMoved) {
      const changes = outerLinkChanges(before, link, this.#comparedFamilies);
      this.#log.info`outer interface ${link.name} has changed: ${changes}`;
    }
    this.#setProblem(link.fault ?? null);
    if (hasMoved) return this.#options.onMoved(link);
    this.#options.onSame(link);
    if (!wasAway || this.#problem !== null) return;
    this.#log.info`outer interface ${link.name} can be used again`;
    this.#options.onBack();
  }

  /** Logged when it begins: while it lasts, its words change with what the host has. */
  #setProblem(problem: string | null): void {
    if (problem !== null && this.#problem === null) this.#log.warning`${problem}`;
    this.#problem = problem;
    this.#retry.settle(problem ?? "");
  }

  stop(): void {
    this.#pace.stop();
    this.#retry.stop();
    this.#endGrace();
  }
}
