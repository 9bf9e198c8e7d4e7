/**
 * Lets the overlay pass the forward chains of others that drop by default, as Docker's is: a packet
 * is forwarded only if every chain at the hook lets it pass, so an accept in a table of our own is
 * not enough. Two rules a network stand at the head of such a chain, known by their comment.
 */
import { SystemError } from "../../ffi/errno.ts";
import { errorText } from "../errors.ts";
import type { Family, IpPrefix } from "../net/ip.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno, NetlinkDecodeError, NetlinkError } from "../netlink/error.ts";
import type { NetlinkMessage } from "../netlink/message.ts";
import { nftTransaction } from "../netlink/nftables/batch.ts";
import {
  chainText,
  decodeForwardChain,
  type ForwardChain,
  listForwardChains,
} from "../netlink/nftables/forward_chain.ts";
import { familyText, NFT_MSG_NEWCHAIN } from "../netlink/nftables/layout.ts";
import { getGeneration, listRules } from "../netlink/nftables/nftables.ts";
import { notifiedRule } from "../netlink/nftables/notification.ts";
import { deleteRuleRequest, insertRuleRequest, type NftRule } from "../netlink/nftables/rule.ts";
import { FIREWALL_TABLE, GUARD_TABLE } from "./firewall_state.ts";
import {
  acceptCommands,
  acceptExpressions,
  acceptsFor,
  areAccepted,
  type ForwardAccept,
  isSameAccept,
  readAccept,
} from "./forward_rules.ts";
import { isLegacyDropping, legacyCommands, type LegacyFilter } from "./legacy_filter.ts";
import type { ReconcileResult } from "./problem.ts";

/** The comment of our rules in chains of others. */
export const FORWARD_COMMENT = "selvage: forward the overlay";
/** Rounds of dump, comparison and change: a foreign hand may come in between. */
const ROUNDS_MAX = 4;

export interface DesiredForwarding {
  /** The networks whose packets are to pass; empty: our rules are removed. */
  readonly networks: readonly IpPrefix[];
  /** Whether we put rules into chains of others; else a chain that drops is a problem. */
  readonly isInserting: boolean;
  /** Our devices: others may let what comes and goes through them pass. */
  readonly linkNames: readonly string[];
}

/** The desired state in which nothing of ours is left. */
export const NO_FORWARDING: DesiredForwarding = {
  networks: [],
  isInserting: false,
  linkNames: [],
};

/** One chain with what matters of its table. */
interface Reading {
  readonly chain: ForwardChain;
  /** Ours there, in their order. */
  readonly own: readonly NftRule[];
  /** What rules of the table accept, ours left out. */
  readonly accepts: readonly ForwardAccept[];
}

const keyOf = (table: ForwardChain["table"], chainName: string) =>
  `${familyText(table.family)} ${table.name} ${chainName}`;

/**
 * `isWhole`: reads all rules of the table, which on a host of thousands take long; else those of
 * the chain.
 */
function readChain(
  connection: NetlinkConnection,
  chain: ForwardChain,
  isWhole: boolean,
): Reading {
  const rules = listRules(connection, chain.table, isWhole ? null : chain.name);
  const isOurs = ({ comment, chainName }: NftRule) =>
    comment === FORWARD_COMMENT && chainName === chain.name;
  return {
    chain,
    own: rules.filter(isOurs),
    accepts: rules.filter((rule) => !isOurs(rule))
      .flatMap(({ expressions }) => readAccept(expressions, chain.table.family) ?? []),
  };
}

/**
 * Every forward chain of others. What other chains of their tables accept is read only if we put
 * no rules into those that drop.
 */
function readChains(connection: NetlinkConnection, isInserting: boolean): Reading[] {
  return listForwardChains(connection).filter(({ table: { name } }) =>
    name !== FIREWALL_TABLE && name !== GUARD_TABLE
  )
    .map((chain) => readChain(connection, chain, chain.isDropping && !isInserting));
}

function isAsWanted({ chain, own }: Reading, wanted: readonly ForwardAccept[]): boolean {
  return own.length === wanted.length &&
    own.every((rule, i) =>
      isSameAccept(readAccept(rule.expressions, chain.table.family), wanted[i]!)
    );
}

/** Replaces our rules of one chain, all at once. Throws `NetlinkError`. */
function writeChain(
  connection: NetlinkConnection,
  { chain, own }: Reading,
  wanted: readonly ForwardAccept[],
): void {
  const { table, name } = chain;
  const inserts = wanted.map(({ side, prefix }) => {
    const accept = { side, prefix: prefix!, linkName: null };
    return insertRuleRequest(
      table,
      name,
      acceptExpressions(accept, table.family),
      FORWARD_COMMENT,
    );
  });
  connection.transaction(nftTransaction("put our rules into", chainText(chain), [
    ...own.map(deleteRuleRequest),
    // Each goes before what is there, so the first comes last.
    ...inserts.reverse(),
  ]));
}

function dropText(chain: ForwardChain): string {
  return `packets of the overlay are dropped: chain ${chainText(chain)} drops all packets that ` +
    "none of its rules accepts (policy drop)";
}

/** The problem of a chain that we leave alone; null: it lets the overlay pass. */
export function judgeForwardChain(
  { chain, accepts }: Reading,
  { networks, linkNames }: DesiredForwarding,
): string | null {
  const wanted = chain.isDropping ? acceptsFor(chain, networks) : [];
  if (areAccepted(wanted, accepts, linkNames)) return null;
  return `${dropText(chain)}; run: ${acceptCommands(chain, wanted)}; or let Selvage put such ` +
    "rules there with --iptables-forward-rules=true";
}

/** Everything of ours in chains of others. Throws `NetlinkError` or `SystemError`. */
export function listForwardAccepts(connection: NetlinkConnection): NftRule[] {
  return readChains(connection, true).flatMap(({ own }) => own);
}

export class ForwardAccepts {
  readonly #connect: () => NetlinkConnection;
  readonly #readLegacy: (family: Family) => LegacyFilter | null;
  #connection: NetlinkConnection | null = null;
  /** The forward chains of others that were there when the rules were last compared. */
  #chains: ReadonlySet<string> = new Set();
  /** When that was, by the kernel's number of changes, for what, and what came of it. */
  #last: {
    readonly generation: number;
    readonly desired: DesiredForwarding;
    readonly problems: readonly string[];
  } | null = null;

  /**
   * `connect` opens a connection to NETLINK_NETFILTER, which is ours to close. `readLegacy` reads
   * the table `filter` of the old iptables.
   */
  constructor(
    connect: () => NetlinkConnection,
    readLegacy: (family: Family) => LegacyFilter | null,
  ) {
    this.#connect = connect;
    this.#readLegacy = readLegacy;
  }

  /** The kernel's number of our socket, which notifications name; 0: not known. */
  get portId(): number {
    return this.#connection?.portId ?? 0;
  }

  close(): void {
    this.#connection?.close();
    this.#connection = null;
    this.#last = null;
  }

  /** Whether a change of nftables that another made may concern our rules in others' chains. */
  isNews(message: NetlinkMessage): boolean {
    if (message.portId !== 0 && message.portId === this.portId) return false;
    if (message.type === NFT_MSG_NEWCHAIN) return decodeForwardChain(message.payload) !== null;
    const rule = notifiedRule(message);
    return rule !== null && this.#chains.has(keyOf(rule.table, rule.chainName));
  }

  /**
   * Makes our rules in others' chains as desired. Writes nothing where nothing differs, and reads
   * nothing where no table has changed since the last call. A chain that drops the overlay and
   * cannot, or is not to, be changed is a problem of the result, with the command that mends it.
   */
  reconcile(desired: DesiredForwarding): ReconcileResult {
    const { changeCount, problems } = this.#reconcileChains(desired);
    return { changeCount, problems: [...problems, ...this.#judgeLegacy(desired)] };
  }

  #reconcileChains(desired: DesiredForwarding): ReconcileResult {
    try {
      const connection = this.#connection ??= this.#connect();
      let changeCount = 0;
      for (let round = 1;; round++) {
        const generation = getGeneration(connection);
        const last = this.#last;
        if (last?.generation === generation && last.desired === desired) {
          return { changeCount, problems: last.problems };
        }
        const readings = readChains(connection, desired.isInserting);
        this.#chains = new Set(readings.map(({ chain }) => keyOf(chain.table, chain.name)));
        const { writeCount, problems } = this.#writeAll(connection, readings, desired);
        changeCount += writeCount;
        if (writeCount === 0 || round === ROUNDS_MAX) {
          this.#last = writeCount === 0 ? { generation, desired, problems } : null;
          return { changeCount, problems };
        }
      }
    } catch (error) {
      if (error instanceof SystemError) this.close();
      // Without nftables no chain of it can drop; the firewall reports what else is missing.
      if (isUnsupported(error)) return { changeCount: 0, problems: [] };
      if (!isExpected(error)) throw error;
      return { changeCount: 0, problems: [errorText(error)] };
    }
  }

  #writeAll(
    connection: NetlinkConnection,
    readings: readonly Reading[],
    desired: DesiredForwarding,
  ): { readonly writeCount: number; readonly problems: readonly string[] } {
    let writeCount = 0;
    const problems: string[] = [];
    for (const reading of readings) {
      const { chain } = reading;
      const isOurs = chain.isDropping && desired.isInserting;
      const wanted = isOurs ? acceptsFor(chain, desired.networks) : [];
      if (!isAsWanted(reading, wanted)) {
        try {
          writeChain(connection, reading, wanted);
          writeCount += 1;
          continue;
        } catch (error) {
          if (hasErrno(error, "ENOENT")) {
            // Another program was faster: the next round sees the new state.
            writeCount += 1;
            continue;
          }
          if (!(error instanceof NetlinkError)) throw error;
          const command = wanted.length === 0 ? "" : `; run: ${acceptCommands(chain, wanted)}`;
          problems.push(
            wanted.length === 0
              ? error.message
              : `${dropText(chain)}, and our rules cannot be put there: ${error.message}${command}`,
          );
          continue;
        }
      }
      const problem = isOurs ? null : judgeForwardChain(reading, desired);
      if (problem !== null) problems.push(problem);
    }
    return { writeCount, problems };
  }

  /** The old iptables has no place for rules that are known by a comment and changed one by one. */
  #judgeLegacy({ networks, linkNames }: DesiredForwarding): string[] {
    return networks.flatMap((network) => {
      try {
        const filter = this.#readLegacy(network.family);
        if (filter === null || !isLegacyDropping(filter, network, linkNames)) return [];
      } catch (error) {
        if (error instanceof SystemError) return [];
        throw error;
      }
      return [
        "packets of the overlay are dropped: chain FORWARD of iptables-legacy drops all packets " +
        `that none of its rules accepts (policy DROP), and Selvage puts no rules there; run: ${
          legacyCommands(network.family, `${network}`)
        }`,
      ];
    });
  }
}

function isUnsupported(error: unknown): boolean {
  const names = ["EPROTONOSUPPORT", "EAFNOSUPPORT", "EOPNOTSUPP", "EINVAL"];
  return error instanceof SystemError ? names.includes(error.code) : hasErrno(error, ...names);
}

function isExpected(error: unknown): boolean {
  return error instanceof SystemError || error instanceof NetlinkError ||
    error instanceof NetlinkDecodeError;
}
