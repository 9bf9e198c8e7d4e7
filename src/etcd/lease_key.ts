/** flannel's keys in etcd: `<prefix>/config` and `<prefix>/subnets/10.5.52.0-24`. */
import { SelvageError } from "../errors.ts";
import { leaseKey, parseLeaseKey } from "../lease/lease.ts";
import { bitsOf, type IpPrefix } from "../net/ip.ts";

/** flannel's `--etcd-prefix`. */
export const DEFAULT_PREFIX = "/coreos.com/network";

/** The longest name of a lease is some 70 characters. */
const NAME_LENGTH_MAX = 128;

/** The keys of one network. */
export class KeySpace {
  /** All that is the network's begins so. */
  readonly root: string;
  readonly config: string;
  /** All leases begin so. */
  readonly subnets: string;

  /** Throws `invalid_argument` for an empty prefix. As in flannel, slashes too many are dropped. */
  constructor(prefix: string) {
    if (prefix === "") {
      throw new SelvageError("invalid_argument", "etcd prefix: must not be empty", {
        hint: `flannel's is ${DEFAULT_PREFIX}.`,
      });
    }
    this.root = `${prefix.replace(/\/+/g, "/").replace(/\/$/, "")}/`;
    this.config = `${this.root}config`;
    this.subnets = `${this.root}subnets/`;
  }

  /** The key of the lease of these subnets. */
  ofLease(subnets: readonly IpPrefix[]): string {
    return this.subnets + leaseKey(subnets);
  }

  /**
   * The subnets that a key under `subnets` names. Throws `invalid_argument` if flannel would not
   * have written it so: another name for the same subnets would be a second lease of them.
   */
  parse(key: string): IpPrefix[] {
    const name = key.slice(this.subnets.length);
    if (name.length > NAME_LENGTH_MAX) {
      throw new SelvageError("invalid_argument", "the name is too long for a subnet's");
    }
    const subnets = parseLeaseKey(name, "name");
    const proper = leaseKey(subnets);
    if (proper !== name) {
      const text = `${JSON.stringify(name)} is not how ${proper} is written`;
      throw new SelvageError("invalid_argument", text);
    }
    const odd = subnets.find(({ family, length }) => length === 0 || length >= bitsOf(family));
    if (odd !== undefined) {
      throw new SelvageError("invalid_argument", `${odd} cannot be the subnet of a node`);
    }
    return subnets;
  }
}
