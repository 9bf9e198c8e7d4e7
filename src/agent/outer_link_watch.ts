/** Follows the outer interface: another address, MTU or index, or another interface. */
import { errorText } from "../errors.ts";
import { isSameOuterLink, type OuterLink, outerLinkChanges } from "../kernel/outer_link.ts";
import { logger } from "../log.ts";
import type { Family } from "../net/ip.ts";
import { Retry } from "../retry.ts";
import { Pace } from "./pace.ts";

/** What comes of a change is to be seen within a second, also if the look takes a part of it. */
const WAIT_MAX_MS = 250;
/** While there is none to choose; not all that may bring one is told. */
const RETRY_MS = 1_000;

export interface OuterLinkWatchOptions {
  /** Asks the kernel for a link with addresses of these families; throws if there is none. */
  readonly choose: (families: readonly Family[]) => OuterLink;
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
  #link: OuterLink;
  #problem: string | null = null;

  /** Chooses, and throws if there is no interface that fits. `retry_ms`: while there is none. */
  constructor(options: OuterLinkWatchOptions, retry_ms = RETRY_MS) {
    this.#options = options;
    this.#retry = new Retry(() => this.check(), retry_ms, retry_ms);
    this.#link = options.choose([4]);
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
      this.#link = this.#options.choose([4]);
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

  /** Says that it may have changed. */
  check(): void {
    this.#pace.run();
  }

  #checkNow(): void {
    const families = this.#options.families();
    if (families === null) return;
    let link: OuterLink;
    try {
      link = this.#options.choose(families);
    } catch (error) {
      // It may come back; until then all stays as it is.
      return this.#setProblem(`outer interface ${this.#link.name}: ${errorText(error)}`);
    }
    const wasAway = this.#problem !== null;
    this.#setProblem(link.fault ?? null);
    const before = this.#link;
    this.#link = link;
    if (!this.hasMovedFrom(before)) {
      this.#options.onSame(link);
      if (wasAway && this.#problem === null) this.#options.onBack();
      return;
    }
    const changes = outerLinkChanges(before, link, this.#comparedFamilies);
    this.#log.info`outer interface ${link.name} has changed: ${changes}`;
    this.#options.onMoved(link);
  }

  /** Told when it begins and ends: while it lasts its words change with what the host has. */
  #setProblem(problem: string | null): void {
    if (problem !== null && this.#problem === null) this.#log.warning`${problem}`;
    if (problem === null && this.#problem !== null) this.#log.info`no longer: ${this.#problem}`;
    this.#problem = problem;
    this.#retry.settle(problem ?? "");
  }

  stop(): void {
    this.#pace.stop();
    this.#retry.stop();
  }
}
