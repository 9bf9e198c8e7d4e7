/**
 * The only writer to the kernel's tables: holds them to the desired state and touches nothing that
 * is not ours.
 */
import { SelvageError } from "../errors.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import type { Link } from "../netlink/link.ts";
import type { Miss } from "../netlink/neighbour.ts";
import { addBlackholeRequest } from "../netlink/route_request.ts";
import { deleteLink, getLink, getTxDropped } from "../netlink/rtnetlink.ts";
import { dumpKernel } from "./actual.ts";
import { reconcileDeviceSysctls } from "./device_sysctls.ts";
import { diffKernelState, type KernelDiff } from "./diff.ts";
import { failureText } from "./failure.ts";
import { answerMiss } from "./miss_answer.ts";
import { peerKeyOf, requestFor } from "./operation.ts";
import type { PeerProblem, ReconcileResult } from "./problem.ts";
import type { Interest } from "./relevance.ts";
import { blackholeRoute } from "./route_diff.ts";
import { type DesiredBlackhole, isOwnDevice, type KernelState, NO_KERNEL_STATE } from "./state.ts";
import { reconcileSysctls } from "./sysctl.ts";

/**
 * Rounds of dump, difference and change: a device must be there before it can be given anything,
 * and the kernel's side effects may need one more.
 */
const ROUNDS_MAX = 6;
/** How many changes are told one by one. */
const SHOWN_CHANGES_MAX = 3;

export interface TablesResult extends ReconcileResult {
  /** What is not as desired for single peers, by their lease keys; everyone else is served. */
  readonly peerProblems: ReadonlyMap<string, string>;
}

/** Sorts problems by whom they concern; of several about one peer the first is kept. */
function toResult(changeCount: number, problems: readonly PeerProblem[]): TablesResult {
  const peerProblems = new Map<string, string>();
  for (const { peerKey, text } of problems) {
    if (peerKey !== null && !peerProblems.has(peerKey)) peerProblems.set(peerKey, text);
  }
  const general = problems.filter(({ peerKey }) => peerKey === null).map(({ text }) => text);
  return { changeCount, problems: [...new Set(general)], peerProblems };
}

export class Reconciler {
  readonly #connection: NetlinkConnection;
  /** Every link that a desired state has held: what is left on them is ours to remove. */
  readonly #linkNames = new Set<string>();
  /** Where the links of the desired state were last seen. */
  #linkIndexes: ReadonlyMap<string, number> = new Map();
  /** The places where routes of ours stand, or stood: see `DiffContext`. */
  #heldRoutes: ReadonlySet<string> = new Set();
  #lastChanges: string[] = [];
  #missing: readonly string[] = [];

  /** Borrows the connection, which stays the caller's to close. */
  constructor(connection: NetlinkConnection) {
    this.#connection = connection;
  }

  /** The first few changes that the kernel took in the last call, each in a few words. */
  get lastChanges(): readonly string[] {
    return this.#lastChanges;
  }

  /** Indexes of the desired links by name, as last seen; another object when one has changed. */
  get linkIndexes(): ReadonlyMap<string, number> {
    return this.#linkIndexes;
  }

  /**
   * Makes the indexes of these links known as far as they are there, before anything is reconciled.
   * Throws as a dump does.
   */
  findLinks(names: readonly string[]): void {
    const unknown = names.filter((name) => !this.#linkIndexes.has(name));
    const found = unknown.flatMap((name) => getLink(this.#connection, name) ?? []);
    if (found.length === 0) return;
    const indexes = found.map(({ name, index }) => [name, index] as const);
    this.#linkIndexes = new Map([...this.#linkIndexes, ...indexes]);
  }

  /** How many packets the kernel dropped that it was to send through a device; 0 without it. */
  txDropped(linkName: string): number {
    return getTxDropped(this.#connection, linkName) ?? 0;
  }

  /**
   * Which devices, addresses and routes that serve all were not as desired after the last call:
   * among its problems.
   */
  get missing(): readonly string[] {
    return this.#missing;
  }

  /** What notifications of the kernel may concern, when this is what it should be. */
  interest(desired: KernelState, outerLink: Interest["outerLink"]): Interest {
    const indexOf = (name: string) => this.#linkIndexes.get(name);
    const names = desired.links.map(({ name }) => name);
    return {
      linkNames: new Set(names),
      linkIndexes: new Set(names.map(indexOf).filter((index) => index !== undefined)),
      outerLink,
      destinations: new Set(
        [...desired.routes, ...desired.blackholes].map(({ destination }) => `${destination}`),
      ),
      misses: new Map(
        desired.misses.flatMap((table) => {
          const index = indexOf(table.linkName);
          return index === undefined ? [] : [[index, table] as const];
        }),
      ),
      ownPortId: this.#connection.portId,
    };
  }

  /** Gives the kernel the entries that it asks for, as far as they are known. */
  answer(misses: readonly Miss[], { misses: tables }: Interest): void {
    const requests = misses.flatMap((miss) => {
      const table = tables.get(miss.linkIndex);
      const request = table === undefined ? null : answerMiss(miss, table);
      return request === null ? [] : [request];
    });
    // One that fails is asked for again.
    if (requests.length > 0) this.#connection.batch(requests);
  }

  /**
   * Makes the kernel as desired: dumps, applies the difference, and dumps again until nothing
   * differs. What cannot be done becomes a problem of the result and is tried again by the next
   * call; the rest is done. `isPartial`: not all peers are known yet, so that of what an earlier
   * run left nothing is removed that may serve them. Throws `NetlinkError` or `SystemError` only if
   * the kernel cannot be read at all.
   */
  reconcile(desired: KernelState, isPartial = false): TablesResult {
    for (const { name } of desired.links) this.#linkNames.add(name);
    this.#lastChanges = [];
    const first = this.#reconcileTables(desired, isPartial);
    // After the tables: a device's values are there when it is.
    const sysctls = reconcileSysctls(desired.sysctls);
    this.#lastChanges.push(...sysctls.changes);
    // What a value forbade, as an IPv6 address, can be done now.
    const isAgain = first.problems.length > 0 && sysctls.changeCount > 0;
    const tables = isAgain ? this.#reconcileTables(desired, isPartial) : first;
    this.#lastChanges.splice(SHOWN_CHANGES_MAX);
    const againCount = isAgain ? tables.changeCount : 0;
    return {
      changeCount: first.changeCount + sysctls.changeCount + againCount,
      // Where a device could not be made, that is the problem, and not its values.
      problems: tables.problems.length > 0
        ? [...tables.problems, ...sysctls.problems]
        : [...sysctls.problems, ...sysctls.absent],
      peerProblems: tables.peerProblems,
    };
  }

  #reconcileTables(desired: KernelState, isPartial: boolean): TablesResult {
    let changeCount = 0;
    let failures: PeerProblem[] = [];
    let isStuck = false;
    for (let round = 1;; round++) {
      const actual = dumpKernel(this.#connection, desired, this.#linkIndexes);
      const diff = diffKernelState(desired, actual, {
        formerLinkNames: this.#linkNames,
        linkIndexes: this.#linkIndexes,
        heldRoutes: this.#heldRoutes,
        isPartial,
      });
      const { operations } = diff;
      this.#remember(diff);
      // Before a new device is set up: from then on it takes what strangers send.
      const sysctls = this.#protectDevices(desired, diff.links);
      changeCount += sysctls.changeCount;
      const isDone = operations.length === 0;
      if (isDone || isStuck || round === ROUNDS_MAX) {
        if (!isDone && failures.length === 0) {
          const text = "another program keeps changing the kernel's tables";
          failures.push({ peerKey: null, text });
        }
        const left = isDone ? diff.problems : [...diff.problems, ...failures];
        const result = toResult(changeCount, left);
        this.#missing = result.problems;
        return { ...result, problems: [...result.problems, ...sysctls.problems] };
      }
      failures = this.#apply(operations, actual.links);
      changeCount += operations.length - failures.length;
      isStuck = failures.length === operations.length;
    }
  }

  /** Sets the values of our devices that are there. */
  #protectDevices(
    { links }: KernelState,
    actual: KernelDiff["links"],
  ): ReconcileResult {
    const results = links.flatMap((link) => {
      const name = actual.get(link.name)?.name;
      return name === undefined ? [] : [reconcileDeviceSysctls(link, name)];
    });
    for (const { changes } of results) this.#lastChanges.push(...changes);
    return {
      changeCount: results.reduce((sum, { changeCount }) => sum + changeCount, 0),
      problems: results.flatMap(({ problems }) => problems),
    };
  }

  #remember({ links, heldRoutes }: KernelDiff): void {
    this.#heldRoutes = heldRoutes;
    const isKnown = [...links].every(([name, { index }]) => this.#linkIndexes.get(name) === index);
    if (isKnown) return;
    const indexes = new Map(this.#linkIndexes);
    for (const [name, { index }] of links) indexes.set(name, index);
    this.#linkIndexes = indexes;
  }

  /** Sends what brings the operations about; returns what the kernel refused. */
  #apply(
    operations: KernelDiff["operations"],
    links: readonly Link[],
  ): PeerProblem[] {
    const linkNames = new Map(links.map((link) => [link.index, link.name]));
    const requests = operations.map((operation) => requestFor(operation, linkNames));
    return this.#connection.batch(requests).flatMap(({ request, error }, i) => {
      const operation = operations[i]!;
      if (error !== null) {
        return [{ peerKey: peerKeyOf(operation), text: failureText(operation, error, links) }];
      }
      if (this.#lastChanges.length < SHOWN_CHANGES_MAX) {
        this.#lastChanges.push(`${request.operation} ${request.object}`);
      }
      return [];
    });
  }

  /**
   * Removes everything that is ours from the kernel's tables, also what an earlier run left behind:
   * our routes except `blackholes`, our devices, and the addresses of our TUN devices, which go
   * when their files are closed.
   */
  clear(blackholes: readonly DesiredBlackhole[] = []): TablesResult {
    const result = this.reconcile({ ...NO_KERNEL_STATE, blackholes });
    this.#heldRoutes = new Set();
    this.#linkIndexes = new Map();
    return result;
  }

  /** Adds these routes, and changes nothing else. Returns what the kernel refused. */
  block(blackholes: readonly DesiredBlackhole[]): readonly string[] {
    const requests = blackholes.map((one) => addBlackholeRequest(blackholeRoute(one)));
    const errors = this.#connection.batch(requests).map(({ error }) => error);
    return errors.filter((error) => error !== null)
      .filter(({ errnoName }) => errnoName !== "EEXIST").map(({ message }) => message);
  }

  /**
   * Makes room for a TUN device of this name: a device that the kernel forwarded through in an
   * earlier run goes. Throws `conflict` if another's has the name: no device is ever taken over.
   */
  ensureNameFree(name: string): void {
    const link = getLink(this.#connection, name);
    if (link === null) return;
    if (isOwnDevice(name, link.kind)) return deleteLink(this.#connection, link);
    const kind = link.tun?.mode ?? link.kind ?? "hardware";
    throw new SelvageError("conflict", `device ${name} exists already and is not ours (${kind})`, {
      hint: `Remove it with "ip link delete ${name}", or end the program that made it, ` +
        "which may be another selvage or flanneld.",
    });
  }
}
