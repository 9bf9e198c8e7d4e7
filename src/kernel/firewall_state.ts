/** Desired firewall rules, as plain data: what a plan asks for and the firewall brings about. */
import type { Family, IpPrefix } from "../net/ip.ts";

/** The name of the tables that masquerade and accept. Whatever is in a table of it is ours. */
export const FIREWALL_TABLE = "selvage";
/** The name of the tables that guard the tunnels; the same holds for them. */
export const GUARD_TABLE = "selvage-guard";
export type FirewallTableName = typeof FIREWALL_TABLE | typeof GUARD_TABLE;

/** Bytes of a packet, counted from its IP header or from what follows that. */
export interface PacketField {
  readonly base: "network" | "transport";
  readonly offset_bytes: number;
  readonly size_bytes: number;
}

/** One part of the key that is looked up in a set. */
export interface KeyPart {
  readonly field: PacketField;
  /** So many leading bits count, the others are 0; null: all do. */
  readonly prefixLength: number | null;
}

/** What a packet must be for a rule to hold. */
export type FirewallMatch =
  /** `isInside` false: the address must not lie in the prefix. */
  | {
    readonly type: "source" | "destination";
    readonly prefix: IpPrefix;
    readonly isInside: boolean;
  }
  /** Of the mark's bits those of `mask` are `value`. */
  | { readonly type: "mark"; readonly value: number; readonly mask: number }
  /** Number of the protocol after the IP header, extension headers left out. */
  | { readonly type: "protocol"; readonly value: number }
  /** Name of the interface that the packet came in by, or goes out by. */
  | {
    readonly type: "link";
    readonly direction: "in" | "out";
    readonly name: string;
    readonly isEqual: boolean;
  }
  /**
   * Index of that interface. The kernel compares it faster than the name, but an interface that is
   * made anew has another index.
   */
  | {
    readonly type: "link_index";
    readonly direction: "in" | "out";
    readonly index: number;
    readonly isEqual: boolean;
  }
  /** Kind of the interface that it came in by, such as "bridge"; hardware has none. */
  | { readonly type: "link_kind"; readonly kind: string; readonly isEqual: boolean }
  /** Whether this user's local socket sent it. No match for what no local socket sent. */
  | { readonly type: "user"; readonly uid: number; readonly isEqual: boolean }
  /** Whether the link layer brought it to this host alone: neither broadcast nor multicast. */
  | { readonly type: "unicast"; readonly isUnicast: boolean }
  /** Whether the first `prefixLength` bits of the field are `value`'s. */
  | {
    readonly type: "field";
    readonly field: PacketField;
    readonly value: Uint8Array;
    readonly prefixLength: number;
    readonly isEqual: boolean;
  }
  /** The field, read as a big-endian number, is between both, inclusive. */
  | {
    readonly type: "range";
    readonly field: PacketField;
    readonly first: Uint8Array;
    readonly last: Uint8Array;
  }
  | {
    readonly type: "member";
    /** Name of a set of the table. */
    readonly set: string;
    readonly key: readonly KeyPart[];
    readonly isMember: boolean;
  }
  /** Whether a packet to its source would leave by the interface that it came in by. */
  | { readonly type: "reverse_path"; readonly isSame: boolean }
  /** Whether its source is an address of this host. */
  | { readonly type: "local_source"; readonly isLocal: boolean };

/** What happens to a packet that matches a rule; no later rule sees it, except after `mark`. */
export type FirewallVerdict =
  | { readonly type: "accept" }
  /** Counted; the count is shown by this name, which is the rule's comment in nft's listing. */
  | { readonly type: "drop"; readonly reason: string }
  /** Goes on in another chain of the table, and comes back if that decides nothing. */
  | { readonly type: "jump"; readonly chainName: string }
  /** These bits of its mark are set. */
  | { readonly type: "mark"; readonly bits: number }
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
  /** Packets that have come in, before any rule translates their destination (DNAT). */
  | "filter prerouting"
  /** Packets for this host. */
  | "filter input"
  /** What is forwarded. */
  | "filter forward"
  /** Packets that this host sends. */
  | "filter output";

/** A chain that accepts what its rules do not decide on. */
export interface DesiredChain {
  readonly name: string;
  /** null: only rules lead to it. */
  readonly hook: FirewallHook | null;
  /** In their order. */
  readonly rules: readonly DesiredRule[];
}

/** A hash table of keys. */
export interface DesiredSet {
  readonly name: string;
  /** Their parts: addresses of the packet, or bytes after its IP header. */
  readonly key: readonly ("ipv4_addr" | "ipv6_addr" | PacketField)[];
  /** Keys as `setElement` makes them. */
  readonly elements: ReadonlySet<string>;
}

/**
 * A key of a set as text, one character a byte: thousands of short texts take less memory and time
 * than as many arrays, and can be looked up.
 */
export function setElement(key: Uint8Array): string {
  return String.fromCharCode(...key);
}

/** The bytes of a key, owned by the caller. */
export function setElementBytes(element: string): Uint8Array {
  return Uint8Array.from(element, (character) => character.charCodeAt(0));
}

/** Our table of one family and name. */
export interface DesiredTable {
  readonly family: Family;
  readonly name: FirewallTableName;
  readonly sets: readonly DesiredSet[];
  readonly chains: readonly DesiredChain[];
  /** For a kernel that lacks an expression of `chains`; not given: there is no other way. */
  readonly plainerChains?: readonly DesiredChain[];
}
