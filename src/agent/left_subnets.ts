/**
 * Subnets that this host has held and holds no more. Containers that were made before have
 * addresses of them, which nobody carries packets to: their bridge shows that they are still there.
 */
import { errorText } from "../errors.ts";
import type { IpPrefix } from "../net/ip.ts";
import { logger } from "../log.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import type { Link } from "../netlink/link.ts";

/** Older ones are forgotten. */
const COUNT_MAX = 16;

/** What of the kernel is looked at. */
export interface LeftSubnetsOptions {
  readonly addresses: () => readonly InterfaceAddress[];
  readonly links: () => readonly Link[];
}

export class LeftSubnets {
  readonly #options: LeftSubnetsOptions;
  #held: readonly IpPrefix[] = [];
  #left: readonly IpPrefix[] = [];

  constructor(options: LeftSubnetsOptions) {
    this.#options = options;
  }

  /** Says what the host holds from now on. */
  hold(subnets: readonly IpPrefix[]): void {
    const all = [...this.#held, ...this.#left];
    this.#left = all.filter((one, i) => {
      return ![...subnets, ...all.slice(0, i)].some((other) => other.equals(one));
    }).slice(0, COUNT_MAX);
    this.#held = subnets;
  }

  /** A sentence for each interface that has an address of such a subnet. Asks the kernel. */
  problems(): string[] {
    if (this.#left.length === 0) return [];
    try {
      const { addresses, links } = this.#options;
      const found = addresses().flatMap(({ address, linkIndex, prefixLength }) => {
        const subnet = this.#left.find((one) => one.contains(address));
        return subnet === undefined ? [] : [{ address, linkIndex, prefixLength, subnet }];
      });
      if (found.length === 0) return [];
      const names = new Map(links().map(({ index, name }) => [index, name]));
      return found.map(({ address, linkIndex, prefixLength, subnet }) => {
        const name = names.get(linkIndex) ?? `interface ${linkIndex}`;
        return `${name} has ${address}/${prefixLength} of ${subnet}, which this host holds no ` +
          "more: containers there are cut off; make them, and the bridge, anew";
      });
    } catch (error) {
      logger("agent").debug`cannot look for interfaces of earlier subnets: ${errorText(error)}`;
      return [];
    }
  }
}
