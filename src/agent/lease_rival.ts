/** Another daemon that publishes our lease as its own, with our public address. */
import { type Lease, type LeaseAttributes, leaseKey } from "../lease/lease.ts";
import { formatLeaseValue } from "../lease/lease_value.ts";
import { printable } from "../printable.ts";
import { NODE_ID_FILE } from "./node_id.ts";

/** It is told of for so long after it was last seen: twice the longest of our own delays. */
const MEMORY_MS = 2 * 60_000;

export function isSameValue(a: LeaseAttributes, b: LeaseAttributes): boolean {
  return a === b || formatLeaseValue(a) === formatLeaseValue(b);
}

/** Whether what a store shows was written by us, though flannel's form has no type for alloc. */
function says(shown: LeaseAttributes, ours: LeaseAttributes): boolean {
  const { backendType } = ours.backendType === "alloc" ? shown : ours;
  return isSameValue(shown, { ...ours, backendType });
}

export class LeaseRival {
  /**
   * Whether the store has shown our mark: a registry of an older Selvage leaves marks out, and then
   * a value without one may be ours.
   */
  #keepsMarks = false;
  /** What the store says of us and we did not write. */
  #word: LeaseAttributes | null = null;
  /** The last one that stood, and when, by the clock that never jumps. */
  #last: { readonly word: LeaseAttributes; readonly seen_ms: number } | null = null;

  /** Whether another's word stands. */
  get isThere(): boolean {
    return this.#word !== null;
  }

  /** Takes what the store shows of us, who say one of `ours`. Whether another's word stands. */
  note(shown: Lease, ours: readonly LeaseAttributes[]): boolean {
    const isOurs = ours.some((one) => says(shown, one));
    if (isOurs && shown.node !== undefined) this.#keepsMarks = true;
    const isUnmarked = shown.node === undefined && !this.#keepsMarks &&
      ours.some(({ node: _mark, ...rest }) => says(shown, rest));
    // A registry that was restored from a backup does not know in which run we wrote it.
    const isOfAnyRun = shown.node?.run === "" &&
      ours.some(({ node, ...rest }) =>
        node !== undefined && says(shown, { ...rest, node: { ...node, run: "" } })
      );
    this.#word = isOurs || isUnmarked || isOfAnyRun ? null : shown;
    return this.isThere;
  }

  /** Its word has stood for a while, and is to be replaced by ours. Whether that is news. */
  confirm(): boolean {
    const isNews = !this.isKnown;
    this.#last = { word: this.#word!, seen_ms: performance.now() };
    this.#word = null;
    return isNews;
  }

  /** Whether there has been one in the last minutes. */
  get isKnown(): boolean {
    return this.#last !== null && performance.now() - this.#last.seen_ms <= MEMORY_MS;
  }

  /** What to say of it, where our lease is this one; null: there was none in the last minutes. */
  problem(lease: Lease, { publicAddresses, node: ours }: LeaseAttributes): string | null {
    if (this.#last === null || !this.isKnown) return null;
    const { backendType, node } = this.#last.word;
    const isCopy = node !== undefined && node.id === ours?.id;
    const said = printable(
      `${backendType}, ${node ? `node ${node.id}` : "no node id: it may be flanneld"}`,
    );
    return `another daemon with the public address ${publicAddresses.join(", ")} publishes our ` +
      `lease ${leaseKey(lease.subnets)} as its own (${said}). Other hosts may send our packets ` +
      `to it. It did so within the last ${MEMORY_MS / 60_000} minutes. ` +
      (isCopy
        ? "It has the node id of this host, so both use one state directory or one is a copy of " +
          "the other: stop one of the two daemons, or give it a --state-dir of its own and " +
          `remove ${NODE_ID_FILE} from a copied state directory. `
        : "") +
      "Two daemons need two public addresses: give each host its own (--public-ip), or stop one " +
      "of the two daemons";
  }
}
