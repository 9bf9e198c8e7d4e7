/**
 * The forward chain of the old iptables (`iptables-legacy`), read from the kernel's own form of the
 * table (`linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter/x_tables.h`). Pure.
 */
import { type Family, IpAddress, IpPrefix } from "../net/ip.ts";
import { HOST_LITTLE_ENDIAN, viewOf } from "../netlink/layout.ts";
import { NF_DROP, NF_INET_FORWARD } from "../netlink/nftables/chain.ts";
import { areAccepted, type ForwardAccept } from "./forward_rules.ts";

/** As the kernel gives it. */
export interface LegacyFilter {
  readonly info: Uint8Array;
  readonly entries: Uint8Array;
}

// struct ipt_getinfo
const UNDERFLOW_OFFSET = 32 + 4 + 5 * 4;

/** Where the parts of `struct ipt_entry` and `struct ip6t_entry` are. */
const LAYOUT = {
  4: { source: 0, destination: 4, sourceMask: 8, destinationMask: 12, links: 16, protocol: 80 },
  6: { source: 0, destination: 16, sourceMask: 32, destinationMask: 48, links: 64, protocol: 128 },
} as const;
const INVERTED_OFFSET = { 4: 83, 6: 132 } as const;
const TARGET_OFFSET_OFFSET = { 4: 88, 6: 140 } as const;
const ENTRY_SIZE = { 4: 112, 6: 168 } as const;

const IFNAMSIZ = 16;
// struct xt_entry_target, struct xt_entry_match
const NAME_OFFSET = 2;
const NAME_SIZE = 29;
const VERDICT_OFFSET = 32;
/** A standard target's verdict: `-verdict - 1`. */
const ACCEPTS = -2;
const DROPS = -NF_DROP - 1;

const textAt = (bytes: Uint8Array, at: number, size_bytes: number) =>
  new TextDecoder().decode(bytes.subarray(at, at + size_bytes)).split("\0")[0]!;

const u16At = (bytes: Uint8Array, at: number) => viewOf(bytes).getUint16(at, HOST_LITTLE_ENDIAN);

/** The verdict of a rule that has one of its own; null: it jumps, or has another target. */
function verdictOf(entry: Uint8Array, family: Family): number | null {
  const target = u16At(entry, TARGET_OFFSET_OFFSET[family]);
  if (target + VERDICT_OFFSET + 4 > entry.length) return null;
  if (textAt(entry, target + NAME_OFFSET, NAME_SIZE) !== "") return null;
  return viewOf(entry).getInt32(target + VERDICT_OFFSET, HOST_LITTLE_ENDIAN);
}

/** Whether it asks only what its head says: a comment asks for nothing. */
function hasOnlyComments(entry: Uint8Array, family: Family): boolean {
  const end = u16At(entry, TARGET_OFFSET_OFFSET[family]);
  for (let at = ENTRY_SIZE[family]; at < end;) {
    const size_bytes = u16At(entry, at);
    if (size_bytes === 0 || textAt(entry, at + NAME_OFFSET, NAME_SIZE) !== "comment") return false;
    at += size_bytes;
  }
  return true;
}

function prefixAt(entry: Uint8Array, at: number, mask: number, family: Family): IpPrefix {
  const address = IpAddress.readFrom(entry, at, family);
  const bits = IpAddress.readFrom(entry, mask, family).value.toString(2);
  const length = bits === "0" ? 0 : bits.replaceAll("0", "").length;
  return IpPrefix.of(address.masked(length), length);
}

/** What a rule accepts at each end that it does not restrict the other of. */
function acceptsOf(entry: Uint8Array, family: Family): ForwardAccept[] {
  const layout = LAYOUT[family];
  const isPlain = viewOf(entry).getUint16(layout.protocol, HOST_LITTLE_ENDIAN) === 0 &&
    entry[INVERTED_OFFSET[family]] === 0 && hasOnlyComments(entry, family);
  if (!isPlain || verdictOf(entry, family) !== ACCEPTS) return [];
  const { links } = layout;
  const source = prefixAt(entry, layout.source, layout.sourceMask, family);
  const destination = prefixAt(entry, layout.destination, layout.destinationMask, family);
  const [from, to] = [textAt(entry, links, IFNAMSIZ), textAt(entry, links + IFNAMSIZ, IFNAMSIZ)];
  const accepts: ForwardAccept[] = [];
  if (from === "" && to === "") {
    if (destination.length === 0) {
      accepts.push({ side: "source", prefix: source, linkName: null });
    }
    if (source.length === 0) {
      accepts.push({ side: "destination", prefix: destination, linkName: null });
    }
  } else if (source.length === 0 && destination.length === 0) {
    if (to === "") accepts.push({ side: "source", prefix: null, linkName: from });
    if (from === "") accepts.push({ side: "destination", prefix: null, linkName: to });
  }
  return accepts;
}

function* entriesOf(bytes: Uint8Array, family: Family): Generator<Uint8Array> {
  for (let at = 0; at + ENTRY_SIZE[family] <= bytes.length;) {
    const size_bytes = u16At(bytes, at + TARGET_OFFSET_OFFSET[family] + 2);
    if (size_bytes < ENTRY_SIZE[family]) return;
    yield bytes.subarray(at, at + size_bytes);
    at += size_bytes;
  }
}

/**
 * Whether the forward chain drops by default what is forwarded for this network, and no rule of any
 * chain of the table accepts it. (Which chain leads to which is not followed.)
 */
export function isLegacyDropping(
  { info, entries }: LegacyFilter,
  network: IpPrefix,
  linkNames: readonly string[],
): boolean {
  const { family } = network;
  const underflow = viewOf(info).getUint32(
    UNDERFLOW_OFFSET + 4 * NF_INET_FORWARD,
    HOST_LITTLE_ENDIAN,
  );
  const policy = entries.subarray(underflow);
  if (policy.length < ENTRY_SIZE[family] || verdictOf(policy, family) !== DROPS) return false;
  const wanted = (["source", "destination"] as const)
    .map((side) => ({ side, prefix: network, linkName: null }));
  const accepts = [...entriesOf(entries, family)].flatMap((entry) => acceptsOf(entry, family));
  // The last rule of a chain is its policy, which in other chains accepts everything.
  const chosen = accepts.filter(({ prefix }) => prefix === null || prefix.length > 0);
  return !areAccepted(wanted, chosen, linkNames);
}

/** The commands that let a network pass it; `network` may be a placeholder. */
export function legacyCommands(family: Family, network: string): string {
  const program = family === 6 ? "ip6tables-legacy" : "iptables-legacy";
  return ["-s", "-d"].map((end) => `${program} -I FORWARD ${end} ${network} -j ACCEPT`).join("; ");
}
