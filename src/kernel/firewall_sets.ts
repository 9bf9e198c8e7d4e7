/**
 * Holds a firewall table with sets to the desired state. The sets have thousands of elements and
 * change often, so they are never replaced as a whole: only the elements that differ are written.
 * Chains are put in place last, when the sets that they ask are complete.
 */
import { isDeepStrictEqual } from "node:util";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { hasErrno } from "../netlink/error.ts";
import { nftTransaction } from "../netlink/nftables/batch.ts";
import { addChainRequest, deleteChainRequest, type NftChain } from "../netlink/nftables/chain.ts";
import { type TableName, tableText } from "../netlink/nftables/layout.ts";
import {
  getTable,
  listChains,
  listElements,
  listRules,
  listSets,
} from "../netlink/nftables/nftables.ts";
import { addRuleRequest, deleteRulesRequest, type NftRule } from "../netlink/nftables/rule.ts";
import {
  addElementsRequest,
  addSetRequest,
  deleteElementsRequest,
  deleteSetRequest,
  ELEMENTS_PER_MESSAGE_MAX,
  type NftSet,
  plainSet,
} from "../netlink/nftables/set.ts";
import { addTableRequest, deleteTableRequest, type NftTable } from "../netlink/nftables/table.ts";
import type { NetlinkRequest } from "../netlink/request.ts";
import { areChains, type ChainContent, tableContent } from "./firewall_content.ts";
import {
  type DesiredChain,
  type DesiredSet,
  type DesiredTable,
  setElement,
  setElementBytes,
} from "./firewall_state.ts";

/** Messages of one transaction: with the largest elements they fit into a socket's send buffer. */
const ELEMENT_MESSAGES_MAX = 8;
/** Sets, elements, chains, and a look at the result; foreign hands may come in between. */
const ROUNDS_MAX = 8;

interface ActualTable {
  readonly table: NftTable;
  readonly chains: readonly NftChain[];
  readonly rules: readonly NftRule[];
  readonly sets: readonly NftSet[];
}

/** null: there is no such table. */
function readTable(connection: NetlinkConnection, name: TableName): ActualTable | null {
  const table = getTable(connection, name);
  if (table === null) return null;
  return {
    table,
    chains: listChains(connection, name),
    rules: listRules(connection, name),
    sets: listSets(connection, name),
  };
}

/** The messages that make an empty table with these sets, whatever there is of this name. */
function rebuildRequests(name: TableName, sets: readonly DesiredSet[]): NetlinkRequest[] {
  return [
    // Deleting a table that is not there would fail, so it is made first.
    addTableRequest(name),
    deleteTableRequest(name),
    addTableRequest(name),
    ...sets.map((set, i) => addSetRequest(name, set.name, set.key, i + 1)),
  ];
}

/** The messages that replace all chains by these, and delete sets that no rule looks up. */
function chainRequests(
  name: TableName,
  actual: ActualTable,
  content: readonly ChainContent[],
  wantedSets: readonly NftSet[],
): NetlinkRequest[] {
  const extraSets = actual.sets.filter((set) => !wantedSets.some((one) => one.name === set.name));
  return [
    ...(actual.rules.length > 0 ? [deleteRulesRequest(name)] : []),
    ...actual.chains.map((chain) => deleteChainRequest(name, chain.name)),
    ...extraSets.map((set) => deleteSetRequest(name, set.name)),
    ...content.map(({ chain }) => addChainRequest(chain)),
    ...content.flatMap(({ chain, rules }) =>
      rules.map(({ expressions, comment }, i) =>
        addRuleRequest(name, chain.name, expressions, i + 1, comment)
      )
    ),
  ];
}

function inMessages(
  elements: readonly string[],
  request: (keys: readonly Uint8Array[]) => NetlinkRequest,
): NetlinkRequest[] {
  const count = Math.ceil(elements.length / ELEMENTS_PER_MESSAGE_MAX);
  return Array.from({ length: count }, (_, i) => {
    const start = i * ELEMENTS_PER_MESSAGE_MAX;
    const part = elements.slice(start, start + ELEMENTS_PER_MESSAGE_MAX);
    return request(part.map(setElementBytes));
  });
}

/** The messages that make these elements those of the set; `keepsElements`: none is deleted. */
function elementRequests(
  name: TableName,
  set: DesiredSet,
  actual: ReadonlySet<string>,
  keepsElements: boolean,
): NetlinkRequest[] {
  const missing = [...set.elements].filter((element) => !actual.has(element));
  const isSame = missing.length === 0 && actual.size === set.elements.size;
  const extra = isSame || keepsElements
    ? []
    : [...actual].filter((element) => !set.elements.has(element));
  return [
    ...inMessages(missing, (keys) => addElementsRequest(name, set.name, keys)),
    ...inMessages(extra, (keys) => deleteElementsRequest(name, set.name, keys)),
  ];
}

/** The same of all sets, as they are in the kernel; none where all is as desired. */
function allElementRequests(
  connection: NetlinkConnection,
  name: TableName,
  { sets }: DesiredTable,
  keepsElements: boolean,
): NetlinkRequest[] {
  return sets.flatMap((set) => {
    const actual = new Set(listElements(connection, name, set.name).map(setElement));
    return elementRequests(name, set, actual, keepsElements);
  });
}

/** Sends them in as many transactions as it takes; returns how many that were. */
function writeElements(
  connection: NetlinkConnection,
  name: TableName,
  requests: readonly NetlinkRequest[],
): number {
  let count = 0;
  for (let start = 0; start < requests.length; start += ELEMENT_MESSAGES_MAX) {
    const part = requests.slice(start, start + ELEMENT_MESSAGES_MAX);
    connection.transaction(nftTransaction("change firewall sets", tableText(name), part));
    count += 1;
  }
  return count;
}

/**
 * Makes the elements of all sets as desired, where the kernel is known to have those of `before`,
 * which has the same sets. Returns the number of transactions. Throws `NetlinkError`.
 */
export function changeElements(
  connection: NetlinkConnection,
  before: DesiredTable,
  desired: DesiredTable,
): number {
  const name = { family: desired.family, name: desired.name };
  const requests = desired.sets.flatMap((set, i) => {
    const { elements } = before.sets[i]!;
    return elementRequests(name, set, elements, false);
  });
  return writeElements(connection, name, requests);
}

interface Step {
  /** null: elements of sets are changed, which is not one transaction. */
  readonly operation: string | null;
  readonly requests: readonly NetlinkRequest[];
}

/** null: nothing is left to do. */
function nextStep(
  connection: NetlinkConnection,
  name: TableName,
  desired: DesiredTable,
  content: readonly ChainContent[],
  keepsElements: boolean,
): Step | null {
  const actual = readTable(connection, name);
  const sets = desired.sets.map((set) => plainSet(set.name, set.key));
  const isOther = (set: NftSet) =>
    actual?.sets.some((found) => found.name === set.name && !isDeepStrictEqual(found, set));
  if (
    actual === null || actual.table.flags !== 0 || sets.some(isOther) ||
    actual.table.useCount !== actual.chains.length + actual.sets.length
  ) return { operation: "replace firewall table", requests: rebuildRequests(name, desired.sets) };
  const newSets = desired.sets.filter((set) =>
    !actual.sets.some((found) => found.name === set.name)
  );
  if (newSets.length > 0) {
    const requests = newSets.map((set, i) => addSetRequest(name, set.name, set.key, i + 1));
    return { operation: "add firewall sets", requests };
  }
  const elements = allElementRequests(connection, name, desired, keepsElements);
  if (elements.length > 0) return { operation: null, requests: elements };
  if (actual.sets.length === sets.length && areChains(actual, content)) return null;
  const requests = chainRequests(name, actual, content, sets);
  return { operation: "replace firewall chains", requests };
}

/** Whether the errno means that the table was changed by another meanwhile, or answers are lost. */
function isToBeReadAgain(error: unknown): boolean {
  return hasErrno(error, "ENOBUFS", "EBUSY") || isGone(error);
}

/** Whether the object that was to be deleted or changed no longer exists. */
function isGone(error: unknown): boolean {
  return hasErrno(error, "ENOENT") && error instanceof Error &&
    /^(delete|change|(add|delete) \d+ elements) /.test(error.message);
}

/**
 * Makes the table so, with `chains` in the place of its own. With `keepsElements` no element is
 * deleted. Returns how many times it wrote; null: others keep changing it. Throws `NetlinkError`.
 */
export function reconcileSetTable(
  connection: NetlinkConnection,
  desired: DesiredTable,
  chains: readonly DesiredChain[],
  keepsElements: boolean,
): number | null {
  const name = { family: desired.family, name: desired.name };
  const content = tableContent({ ...desired, chains });
  let changeCount = 0;
  for (let round = 1; round <= ROUNDS_MAX; round++) {
    const step = nextStep(connection, name, desired, content, keepsElements);
    if (step === null) return changeCount;
    const { operation, requests } = step;
    try {
      if (operation === null) writeElements(connection, name, requests);
      else connection.transaction(nftTransaction(operation, tableText(name), requests));
      changeCount += 1;
    } catch (error) {
      if (!isToBeReadAgain(error)) throw error;
    }
  }
  return null;
}
