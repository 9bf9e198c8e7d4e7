/** Which entries of a desired set the loops can serve, in the numbers they work with. */
import type { ForwardingEntry, SkippedPeer } from "../backend/backend.ts";

/** One peer to serve. Addresses are IPv4, as numbers in host order. */
export interface WantedPeer {
  readonly key: string;
  /** The lowest address of the subnet. */
  readonly subnet: number;
  readonly subnetLength: number;
  readonly address: number;
  readonly port: number;
}

export interface WantedPeers {
  readonly wanted: ReadonlyMap<string, WantedPeer>;
  readonly skipped: readonly SkippedPeer[];
}

/** First address of class D; it and all above are no unicast addresses (RFC 1112, RFC 919). */
const UNICAST_END = 0xe0000000;

const known = new WeakMap<ForwardingEntry, WantedPeer>();

/** Why an entry by itself cannot be served, or null. */
function fault(entry: ForwardingEntry): string | null {
  const { subnet, address, port } = entry;
  if (subnet.family !== 4) return `subnet ${subnet} is not IPv4`;
  if (address.family !== 4) return `address ${address} is not IPv4`;
  const isUnicast = !address.isUnspecified() && address.toUint32() < UNICAST_END;
  if (!isUnicast) return `address ${address} is no host's`;
  if (!Number.isInteger(port) || port < 1 || port > 65535) return `port ${port} is not 1 to 65535`;
  return null;
}

/** The same object for the same entry: a plan shares what has not changed with the one before. */
function numbersOf(entry: ForwardingEntry): WantedPeer {
  let peer = known.get(entry);
  if (peer === undefined) {
    const { key, subnet, port } = entry;
    const first = subnet.address.toUint32();
    const address = entry.address.toUint32();
    peer = { key, subnet: first, subnetLength: subnet.length, address, port };
    known.set(entry, peer);
  }
  return peer;
}

/** The entries in the order of their subnets; a plan's are so already. */
function inOrder(entries: readonly ForwardingEntry[]): readonly ForwardingEntry[] {
  const isSorted = entries.every((entry, i) =>
    i === 0 || entries[i - 1]!.subnet.compare(entry.subnet) <= 0
  );
  return isSorted ? entries : [...entries].sort((a, b) => a.subnet.compare(b.subnet));
}

/** Sorts out what cannot be served: each entry by itself, and the later of two that clash. */
export function wantedPeers(entries: readonly ForwardingEntry[]): WantedPeers {
  const wanted = new Map<string, WantedPeer>();
  const skipped: SkippedPeer[] = [];
  let taken_end = 0;
  for (const entry of inOrder(entries)) {
    const { key, subnet } = entry;
    let reason = fault(entry);
    if (reason === null && wanted.has(key)) reason = `key ${key} occurs twice`;
    if (reason === null && subnet.address.toUint32() < taken_end) {
      reason = `subnet ${subnet} overlaps with another peer's`;
    }
    if (reason !== null) {
      skipped.push({ key, reason });
      continue;
    }
    const peer = numbersOf(entry);
    taken_end = peer.subnet + 2 ** (32 - peer.subnetLength);
    wanted.set(key, peer);
  }
  return { wanted, skipped };
}
