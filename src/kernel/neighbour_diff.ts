/** What is to be done about the neighbours and FDB entries of our VXLAN devices. Pure. */
import type { Link } from "../netlink/link.ts";
import {
  type FdbEntry,
  type Neighbour,
  NUD_NOARP,
  NUD_PERMANENT,
  NUD_VALID,
} from "../netlink/neighbour.ts";
import { addressOfVtep, vtepOfAddress } from "./miss_table.ts";
import type { KernelOperation } from "./operation.ts";
import type { DesiredFdbEntry, DesiredNeighbour, MissTable } from "./state.ts";

/**
 * Entries that the kernel made by itself, of a device without misses. They are useless, because the
 * plan names every neighbour. A few of them are left alone. In a flood of questions from thousands
 * of senders they are removed, because IPv6 cannot be told to leave such questions unanswered.
 */
const LEARNT_NEIGHBOURS_MAX = 64;

/** What there is of one device. */
interface OfLink<D, A> {
  readonly link: Link;
  readonly desired: readonly D[];
  readonly actual: readonly A[];
  /** null: nothing is made on demand. */
  readonly misses: MissTable | null;
}

/** Whether the kernel made the entry when the neighbour said something. */
function isLearnt({ state }: Neighbour): boolean {
  return (state & (NUD_PERMANENT | NUD_NOARP)) === 0 && (state & NUD_VALID) !== 0;
}

/** Whether an entry that the plan does not name may stay all the same. */
function mayStay(neighbour: Neighbour, misses: MissTable | null): boolean {
  const { state, address, macAddress } = neighbour;
  // What is no answer to anything does no harm: multicast, failed, being asked for.
  if ((state & NUD_NOARP) !== 0 || (state & NUD_VALID) === 0 || macAddress === null) return true;
  if (misses !== null) return vtepOfAddress(misses, address)?.equals(macAddress) === true;
  return (state & NUD_PERMANENT) === 0;
}

/** `isPartial`: what is not desired may yet be, and stays. */
export function diffNeighbours(
  { link, desired, actual, misses }: OfLink<DesiredNeighbour, Neighbour>,
  isPartial: boolean,
): KernelOperation[] {
  const found = new Map(actual.map((neighbour) => [`${neighbour.address}`, neighbour]));
  const operations: KernelOperation[] = [];
  for (const entry of desired) {
    const text = `${entry.address}`;
    const neighbour = found.get(text);
    found.delete(text);
    const isRight = neighbour !== undefined && (neighbour.state & NUD_PERMANENT) !== 0 &&
      neighbour.macAddress?.equals(entry.macAddress) === true;
    if (!isRight) operations.push({ type: "put_neighbour", link, desired: entry });
  }
  if (isPartial) return operations;
  const learnt = misses === null ? [...found.values()].filter(isLearnt) : [];
  const isFlooded = learnt.length > LEARNT_NEIGHBOURS_MAX;
  for (const neighbour of found.values()) {
    if (!mayStay(neighbour, misses) || (isFlooded && isLearnt(neighbour))) {
      operations.push({ type: "delete_neighbour", link, neighbour });
    }
  }
  return operations;
}

function isFdbEntryKept(entry: FdbEntry, misses: MissTable | null, isLearning: boolean): boolean {
  if ((entry.state & NUD_PERMANENT) !== 0 || entry.address === null) return false;
  if (misses?.isFdbOnMiss) {
    const address = addressOfVtep(misses, entry.macAddress);
    if (address !== undefined) return address.equals(entry.address);
  }
  // Learnt from what came in; it ages.
  return isLearning;
}

/** `isPartial`: what is not desired may yet be, and stays. */
export function diffFdb(
  { link, desired, actual, misses }: OfLink<DesiredFdbEntry, FdbEntry>,
  isPartial: boolean,
): KernelOperation[] {
  const byMac = new Map<string, FdbEntry[]>();
  for (const entry of actual) {
    const mac = `${entry.macAddress}`;
    const same = byMac.get(mac);
    if (same === undefined) byMac.set(mac, [entry]);
    else same.push(entry);
  }
  const operations: KernelOperation[] = [];
  for (const entry of desired) {
    const mac = `${entry.macAddress}`;
    const same = byMac.get(mac) ?? [];
    byMac.delete(mac);
    const right = same.find(({ address, state, vni, port }) =>
      address?.equals(entry.address) === true && (state & NUD_PERMANENT) !== 0 &&
      vni === null && port === null
    );
    // A frame for a VTEP goes to all the places its MAC has.
    const wrong = same.filter((one) => one !== right);
    if (right === undefined && wrong.length === 1) wrong.pop();
    operations.push(...wrong.map((one) => ({ type: "delete_fdb", link, entry: one }) as const));
    if (right === undefined) operations.push({ type: "put_fdb", link, desired: entry });
  }
  if (isPartial) return operations;
  const isLearning = link.vxlan?.isLearning === true;
  for (const entry of [...byMac.values()].flat()) {
    if (!isFdbEntryKept(entry, misses, isLearning)) {
      operations.push({ type: "delete_fdb", link, entry });
    }
  }
  return operations;
}
