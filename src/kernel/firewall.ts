/**
 * The only writer of firewall rules: holds our nftables tables to the desired state. One without
 * sets is replaced as a whole, in one transaction, so no packet meets half of one, or none; one
 * with sets is dealt with in `firewall_sets.ts`.
 */
import { isDeepStrictEqual } from "node:util";
import { SystemError } from "../../ffi/errno.ts";
import type { Family } from "../net/ip.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno, NetlinkDecodeError, NetlinkError } from "../netlink/error.ts";
import { nftTransaction } from "../netlink/nftables/batch.ts";
import { addChainRequest } from "../netlink/nftables/chain.ts";
import { type TableName, tableText } from "../netlink/nftables/layout.ts";
import { getChain, getGeneration, getTable, listRules } from "../netlink/nftables/nftables.ts";
import { addRuleRequest } from "../netlink/nftables/rule.ts";
import { addTableRequest, deleteTableRequest } from "../netlink/nftables/table.ts";
import type { NetlinkRequest } from "../netlink/request.ts";
import {
  type ActualTable,
  type ChainContent,
  isContent,
  tableContent,
} from "./firewall_content.ts";
import { changeElements, reconcileSetTable } from "./firewall_sets.ts";
import {
  type DesiredTable,
  FIREWALL_TABLE,
  type FirewallTableName,
  GUARD_TABLE,
} from "./firewall_state.ts";
import type { ReconcileResult } from "./problem.ts";

const FAMILIES: readonly Family[] = [4, 6];
/** The guard comes first, because it must be in place before packets flow. */
const TABLE_NAMES: readonly FirewallTableName[] = [GUARD_TABLE, FIREWALL_TABLE];
/** Rounds of dump, comparison and replacement: a foreign hand may come in between. */
const ROUNDS_MAX = 4;
/** How often a table is read that changes meanwhile. */
const READS_MAX = 4;

/** Without nftables no chain of it drops packets either, so only masquerading is missing. */
const NO_NFTABLES = "this kernel has no nftables, which --ip-masq needs, so nothing is " +
  "masqueraded: load the module nf_tables, or start with --ip-masq=false and make such rules " +
  "yourself";
/** Who can send into the overlay without the guard, and what to do; the reason comes before it. */
const UNGUARDED = "so the tunnel is not guarded: local users, containers and other hosts can " +
  "send packets into the overlay. Load the module nf_tables, or filter the tunnel's port " +
  "yourself and switch the guard off (--guard=false)";
const LOAD_MODULES = "load the modules nft_chain_nat and nft_masq, or start with " +
  "--ip-masq=false";

/** The messages that put a table in place of one that may be there. */
function replaceRequests(table: TableName, content: readonly ChainContent[]): NetlinkRequest[] {
  return [
    // Deleting what is not there would fail, so it is made first.
    addTableRequest(table),
    deleteTableRequest(table),
    addTableRequest(table),
    ...content.flatMap(({ chain, rules }) => [
      addChainRequest(chain),
      ...rules.map(({ expressions }, i) => addRuleRequest(table, chain.name, expressions, i + 1)),
    ]),
  ];
}

function readOnce(
  connection: NetlinkConnection,
  name: TableName,
  content: readonly ChainContent[],
): ActualTable | null {
  const table = getTable(connection, name);
  if (table === null) return null;
  const chains = content.flatMap(({ chain }) => getChain(connection, name, chain.name) ?? []);
  return { table, chains, rules: listRules(connection, name) };
}

/** Our table of this name as it was at one moment; null: there is none. */
function readTable(
  connection: NetlinkConnection,
  name: TableName,
  content: readonly ChainContent[],
): ActualTable | null {
  for (let attempt = 1;; attempt++) {
    const before = getGeneration(connection);
    const actual = readOnce(connection, name, content);
    // Where others never rest, a reading in pieces has to do: at worst it replaces for nothing.
    if (attempt === READS_MAX || getGeneration(connection) === before) return actual;
  }
}

/** Writes once; false: it may not have been done, so look. Throws `NetlinkError`. */
function writeTable(
  connection: NetlinkConnection,
  name: TableName,
  content: readonly ChainContent[] | null,
): boolean {
  const requests = content === null ? [deleteTableRequest(name)] : replaceRequests(name, content);
  const operation = content === null ? "remove firewall table" : "replace firewall table";
  try {
    connection.transaction(nftTransaction(operation, tableText(name), requests));
    return true;
  } catch (error) {
    const isGone = content === null && hasErrno(error, "ENOENT");
    if (isGone || hasErrno(error, "ENOBUFS")) return false;
    throw error;
  }
}

/** Whether this is how a kernel without nftables answers its very first question. */
function isUnsupported(error: unknown): boolean {
  const names = ["EPROTONOSUPPORT", "EAFNOSUPPORT", "EOPNOTSUPP", "EINVAL"];
  return error instanceof SystemError ? names.includes(error.code) : hasErrno(error, ...names);
}

/** Whether the error means that the kernel lacks a family, or a type of chain or expression. */
function isLacking(error: unknown): boolean {
  return hasErrno(error, "ENOENT", "EOPNOTSUPP", "EAFNOSUPPORT");
}

/** A kernel without nftables accepts what it forwards; only translation is missed there. */
function isMasquerading({ chains }: DesiredTable): boolean {
  return chains.some(({ hook }) => hook === "nat postrouting");
}

function isGuard({ name }: DesiredTable): boolean {
  return name === GUARD_TABLE;
}

function keepsChanging(name: TableName): string {
  return `another program keeps changing firewall table ${tableText(name)}`;
}

/** One sentence, with what to do; rethrows what is a defect of ours. */
function problemOf(error: unknown): string {
  if (error instanceof SystemError || error instanceof NetlinkDecodeError) return error.message;
  if (!(error instanceof NetlinkError)) throw error;
  const advice = isLacking(error) ? LOAD_MODULES : error.hint;
  return advice === "" ? error.message : `${error.message}; ${advice}`;
}

/** Tables that the kernel was seen to have, when its number of changes was this. */
interface Verified {
  readonly generation: number;
  readonly tables: readonly DesiredTable[];
}

/** Whether nothing but elements of sets differs. */
function hasSameRules(a: readonly DesiredTable[], b: readonly DesiredTable[]): boolean {
  const withoutElements = (tables: readonly DesiredTable[]) =>
    tables.map((table) => ({ ...table, sets: table.sets.map(({ name, key }) => ({ name, key })) }));
  return isDeepStrictEqual(withoutElements(a), withoutElements(b));
}

export class Firewall {
  readonly #connect: () => NetlinkConnection;
  #connection: NetlinkConnection | null = null;
  #guardFault: string | null = null;
  /** null: it is not known what the kernel has. */
  #verified: Verified | null = null;
  /** Families for which the kernel has refused the guard's preferred chains. */
  readonly #plainer = new Set<Family>();

  /**
   * `connect` opens a connection to NETLINK_NETFILTER, which is the firewall's to close. It is
   * called when one is needed first, and again after one that failed.
   */
  constructor(connect: () => NetlinkConnection) {
    this.#connect = connect;
  }

  /** The kernel's number of our socket, which notifications name; 0: not known. */
  get portId(): number {
    return this.#connection?.portId ?? 0;
  }

  close(): void {
    this.#connection?.close();
    this.#connection = null;
  }

  /**
   * Makes our tables as desired, at most one of a name and family; of those that are not desired
   * there is none afterwards. Compares all that is in them, and writes nothing where nothing
   * differs. With `keepsElements` no element of a set is deleted. What cannot be done becomes a
   * problem of the result, is tried again by the next call, and keeps no other table from being
   * done; so does a kernel that lacks what it takes, if anything is to be masqueraded. A kernel
   * that lacks what the guard takes is reported by `guardFault`.
   */
  reconcile(desired: readonly DesiredTable[], keepsElements = false): ReconcileResult {
    const verified = this.#verified;
    this.#verified = null;
    this.#guardFault = null;
    let generation: number;
    try {
      generation = getGeneration(this.#open());
    } catch (error) {
      if (error instanceof SystemError) this.close();
      if (!isUnsupported(error)) return { changeCount: 0, problems: [problemOf(error)] };
      if (desired.some(isGuard)) this.#guardFault = `this kernel has no nftables, ${UNGUARDED}`;
      return { changeCount: 0, problems: desired.some(isMasquerading) ? [NO_NFTABLES] : [] };
    }
    const isKnown = verified?.generation === generation && !keepsElements;
    if (isKnown && hasSameRules(verified.tables, desired)) {
      const changeCount = this.#changeElements(verified, desired);
      if (changeCount !== null) return { changeCount, problems: [] };
    }
    const result = this.#reconcileAll(desired, keepsElements);
    const isDone = result.problems.length === 0 && this.#guardFault === null && !keepsElements;
    if (isDone) this.#verify(generation, desired, result.changeCount > 0);
    return result;
  }

  /**
   * Remembers that the kernel has these tables, unless something changed while they were read. What
   * was written is read again first, where that spares reading thousands of elements later.
   */
  #verify(generation: number, tables: readonly DesiredTable[], isWritten: boolean): void {
    if (!tables.some(({ sets }) => sets.length > 0)) return;
    try {
      const start = isWritten ? getGeneration(this.#open()) : generation;
      if (isWritten) {
        const { changeCount, problems } = this.#reconcileAll(tables, false);
        if (changeCount > 0 || problems.length > 0) return;
      }
      if (getGeneration(this.#open()) !== start) return;
      this.#verified = { generation: start, tables };
    } catch {
      // The next call reads everything again, and reports what is wrong.
    }
  }

  /**
   * Changes elements of sets, which are all that differs, without reading the sets first. Returns
   * how many transactions that took; null: the kernel did not take it, or something else changed.
   */
  #changeElements(verified: Verified, desired: readonly DesiredTable[]): number | null {
    try {
      const connection = this.#open();
      let count = 0;
      for (const [i, table] of desired.entries()) {
        count += changeElements(connection, verified.tables[i]!, table);
      }
      const generation = getGeneration(connection);
      // Each transaction is one change. With another's among them it is not known what there is.
      const isOurs = generation === (verified.generation + count) >>> 0;
      if (isOurs) this.#verified = { generation, tables: desired };
      return isOurs ? count : null;
    } catch (error) {
      if (error instanceof SystemError) this.close();
      return null;
    }
  }

  #reconcileAll(desired: readonly DesiredTable[], keepsElements: boolean): ReconcileResult {
    const results = TABLE_NAMES.flatMap((name) =>
      FAMILIES.map((family) => {
        const table = desired.find((one) => one.name === name && one.family === family);
        return table !== undefined && table.sets.length > 0
          ? this.#reconcileSets(table, keepsElements)
          : this.#reconcileTable({ family, name }, table ?? null);
      })
    );
    return {
      changeCount: results.reduce((sum, { changeCount }) => sum + changeCount, 0),
      problems: results.flatMap(({ problems }) => problems),
    };
  }

  /** Why the guard is missing, with what to do; null: it is in place, or was not desired. */
  get guardFault(): string | null {
    return this.#guardFault;
  }

  /**
   * How many packets the guard has dropped since it was put in place, by reason. Throws
   * `NetlinkError` and `SystemError`.
   */
  readGuardDrops(): Record<string, number> {
    const drops: Record<string, number> = {};
    for (const family of FAMILIES) {
      for (const rule of listRules(this.#open(), { family, name: GUARD_TABLE })) {
        const counter = rule.expressions.find((one) => one.type === "counter");
        if (counter === undefined || rule.comment === "") continue;
        drops[rule.comment] = (drops[rule.comment] ?? 0) + counter.packetCount;
      }
    }
    return drops;
  }

  #open(): NetlinkConnection {
    return this.#connection ??= this.#connect();
  }

  #reconcileSets(desired: DesiredTable, keepsElements: boolean): ReconcileResult {
    const { chains, plainerChains } = desired;
    const isPlainer = plainerChains !== undefined && this.#plainer.has(desired.family);
    try {
      const used = isPlainer ? plainerChains : chains;
      const changeCount = reconcileSetTable(this.#open(), desired, used, keepsElements);
      if (changeCount === null) return { changeCount: 0, problems: [keepsChanging(desired)] };
      return { changeCount, problems: [] };
    } catch (error) {
      if (error instanceof SystemError) this.close();
      if (!isLacking(error)) return { changeCount: 0, problems: [problemOf(error)] };
      if (plainerChains !== undefined && !isPlainer) {
        this.#plainer.add(desired.family);
        return this.#reconcileSets(desired, keepsElements);
      }
      this.#guardFault = `${problemOf(error)}, ${UNGUARDED}`;
      return { changeCount: 0, problems: [] };
    }
  }

  /** `desired` null: there must be no table of ours. */
  #reconcileTable(name: TableName, desired: DesiredTable | null): ReconcileResult {
    const content = desired === null ? null : tableContent(desired);
    let changeCount = 0;
    try {
      for (let round = 1;; round++) {
        const actual = readTable(this.#open(), name, content ?? []);
        const isDone = content === null
          ? actual === null
          : actual !== null && isContent(actual, content);
        if (isDone) return { changeCount, problems: [] };
        if (round === ROUNDS_MAX) break;
        if (writeTable(this.#open(), name, content)) changeCount += 1;
      }
      return { changeCount, problems: [keepsChanging(name)] };
    } catch (error) {
      if (error instanceof SystemError) this.close();
      const isHarmless = desired !== null && !isMasquerading(desired) && isLacking(error);
      return { changeCount, problems: isHarmless ? [] : [problemOf(error)] };
    }
  }
}
