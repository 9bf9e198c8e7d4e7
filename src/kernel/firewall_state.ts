/** Desired firewall rules, as plain data: what a plan asks for and the firewall brings about. */
import type { Family, IpPrefix } from "../net/ip.ts";

/** The name of our tables, one a family. Whatever is in a table of this name is ours. */
export const FIREWALL_TABLE = "selvage";

/** What a packet must be for a rule to hold. */
export type FirewallMatch =
  /** `isInside` false: the address must not lie in the prefix. */
  | {
    readonly type: "source" | "destination";
    readonly prefix: IpPrefix;
    readonly isInside: boolean;
  }
  /** Of the mark's bits those of `mask` are `value`. */
  | { readonly type: "mark"; readonly value: number; readonly mask: number };

/** What becomes of a packet that a rule holds for; no later rule of the chain sees it. */
export type FirewallVerdict =
  | { readonly type: "accept" }
  /** Left to the chain's policy, and to the next chain at the hook. */
  | { readonly type: "return" }
  /**
   * Its source becomes the address of the link it leaves through. `isFullyRandom`: with a random
   * source port, so that two hosts' connections rarely take the same one at the same time.
   */
  | { readonly type: "masquerade"; readonly isFullyRandom: boolean };

export interface DesiredRule {
  /** All of them must hold. */
  readonly matches: readonly FirewallMatch[];
  readonly verdict: FirewallVerdict;
}

/** Where a chain is called: `nat` decides on a connection once, `filter` on each packet. */
export type FirewallHook =
  /** Where source addresses are translated. */
  | "nat postrouting"
  /** What is forwarded. */
  | "filter forward";

/** A chain that accepts what its rules do not decide on. */
export interface DesiredChain {
  readonly name: string;
  readonly hook: FirewallHook;
  /** In their order. */
  readonly rules: readonly DesiredRule[];
}

/** Our table of one family. */
export interface DesiredTable {
  readonly family: Family;
  readonly chains: readonly DesiredChain[];
}
