/**
 * Interfaces with addresses of the overlay that are not of this host's subnet, such as a container
 * bridge from before the host moved: nobody carries packets to the containers there.
 */
import { errorText } from "../errors.ts";
import { mayHoldContainers } from "../kernel/surroundings.ts";
import type { IpPrefix } from "../net/ip.ts";
import { logger } from "../log.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import type { Link } from "../netlink/link.ts";

/** Of subnets that were held before: older ones are forgotten. */
const COUNT_MAX = 16;
/** So many interfaces are named. */
const NAMED_MAX = 20;

/** What of the kernel is looked at. */
export interface LeftSubnetsOptions {
  readonly addresses: () => readonly InterfaceAddress[];
  readonly links: () => readonly Link[];
  /** The index of the outer interface, which may be a bridge as well; null: there is none. */
  readonly outerLinkIndex: () => number | null;
}

export class LeftSubnets {
  readonly #options: LeftSubnetsOptions;
  #held: readonly IpPrefix[] = [];
  /** Those of another network, too, which may have been this one's before. */
  #left: readonly IpPrefix[] = [];

  constructor(options: LeftSubnetsOptions) {
    this.#options = options;
  }

  /** Those of its lease, or of its last one: of its containers. */
  get held(): readonly IpPrefix[] {
    return this.#held;
  }

  /** Says what the host holds from now on. Returns what of it held until now it does not. */
  hold(subnets: readonly IpPrefix[]): readonly IpPrefix[] {
    const left = this.#held.filter((one) => !subnets.some((subnet) => subnet.equals(one)));
    const all = [...this.#held, ...this.#left];
    this.#left = all.filter((one, i) => {
      return ![...subnets, ...all.slice(0, i)].some((other) => other.equals(one));
    }).slice(0, COUNT_MAX);
    this.#held = subnets;
    return left;
  }

  /**
   * Whether containers may be at the link, and the address is of a subnet that was held before; or,
   * for subnets of an earlier run, whether the link is a bridge that looks like one for containers
   * of this network.
   */
  #isLeft(
    { address, prefixLength }: InterfaceAddress,
    link: Link | undefined,
    networks: readonly IpPrefix[],
  ): boolean {
    if (link === undefined || !mayHoldContainers(link)) return false;
    if (link.index === this.#options.outerLinkIndex()) return false;
    const isIn = (prefixes: readonly IpPrefix[]) => prefixes.some((one) => one.contains(address));
    if (isIn(this.#held)) return false;
    const isOfBefore = link.kind === "bridge" && isIn(networks) &&
      this.#held.some(({ length }) => length === prefixLength);
    return isIn(this.#left) || isOfBefore;
  }

  /** A sentence for each such interface, where the overlay is these networks. Asks the kernel. */
  problems(networks: IpPrefix[]): string[] {
    if (this.#held.length === 0) return [];
    try {
      const links = new Map(this.#options.links().map((link) => [link.index, link]));
      const found = this.#options.addresses().filter((entry) =>
        this.#isLeft(entry, links.get(entry.linkIndex), networks)
      );
      return found.slice(0, NAMED_MAX).map(({ address, linkIndex, prefixLength }) => {
        const { name, kind } = links.get(linkIndex)!;
        const anew = kind === "bridge" ? "make them, and the bridge, anew" : "make them anew";
        return `${name} has ${address}/${prefixLength}, which is not of this host's subnet ` +
          `${this.#held.join(", ")}: containers there are cut off; ${anew}`;
      });
    } catch (error) {
      logger("agent").debug`cannot look for interfaces of other subnets: ${errorText(error)}`;
      return [];
    }
  }
}
