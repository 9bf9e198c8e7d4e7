/** What the rest of Selvage asks of nftables, one function each. All throw `NetlinkError`. */
import { Attributes } from "../attribute.ts";
import type { NetlinkConnection } from "../connection.ts";
import { hasErrno, NetlinkDecodeError } from "../error.ts";
import type { NetlinkMessage } from "../message.ts";
import type { NetlinkRequest } from "../request.ts";
import { decodeChain, getChainRequest, listChainsRequest, type NftChain } from "./chain.ts";
import {
  familyOf,
  NFGENMSG_SIZE,
  NFT_MSG_GETGEN,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  startPayload,
  type TableName,
} from "./layout.ts";
import { decodeRule, listRulesRequest, type NftRule } from "./rule.ts";
import {
  decodeElements,
  decodeSet,
  listElementsRequest,
  listSetsRequest,
  type NftSet,
} from "./set.ts";
import { decodeTable, getTableRequest, type NftTable } from "./table.ts";

/** enum nft_gen_attributes */
const NFTA_GEN_ID = 1;

/** The one object that a request asks for; null: there is none. */
function getOne<T>(
  connection: NetlinkConnection,
  request: NetlinkRequest,
  type: number,
  decode: (payload: Uint8Array) => T | null,
): T | null {
  try {
    const message = connection.request(request).find((message) => message.type === type);
    const found = message === undefined ? null : decode(message.payload);
    if (found === null) throw new NetlinkDecodeError(request.operation, "an empty answer");
    return found;
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return null;
    throw error;
  }
}

/** The table of this name, or null if there is none. */
export function getTable(connection: NetlinkConnection, table: TableName): NftTable | null {
  return getOne(connection, getTableRequest(table), NFT_MSG_NEWTABLE, decodeTable);
}

/** The chain of this name, or null if there is none. */
export function getChain(
  connection: NetlinkConnection,
  table: TableName,
  name: string,
): NftChain | null {
  return getOne(connection, getChainRequest(table, name), NFT_MSG_NEWCHAIN, decodeChain);
}

/** A dump of what is in a table; nothing if there is no such table or set. */
function listIn<T>(
  connection: NetlinkConnection,
  request: NetlinkRequest,
  decode: (message: NetlinkMessage) => T | null,
): T[] {
  try {
    return connection.dump(request, decode);
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** The chains of a table; none if there is no such table. */
export function listChains(connection: NetlinkConnection, table: TableName): NftChain[] {
  return listIn(connection, listChainsRequest(table.family), ({ type, payload }) => {
    const chain = type === NFT_MSG_NEWCHAIN ? decodeChain(payload) : null;
    if (chain?.table.family !== table.family || chain.table.name !== table.name) return null;
    return chain;
  });
}

/** The rules of a table, chain by chain, each in its order; none if there is no such table. */
export function listRules(
  connection: NetlinkConnection,
  table: TableName,
  chainName: string | null = null,
): NftRule[] {
  return listIn(connection, listRulesRequest(table, chainName), ({ type, payload }) => {
    const rule = type === NFT_MSG_NEWRULE ? decodeRule(payload) : null;
    // Older kernels leave the choice of the table, and of the chain, to the reader.
    if (rule?.table.family !== table.family || rule.table.name !== table.name) return null;
    if (chainName !== null && rule.chainName !== chainName) return null;
    return rule;
  });
}

/** The sets of a table; none if there is no such table. */
export function listSets(connection: NetlinkConnection, table: TableName): NftSet[] {
  return listIn(connection, listSetsRequest(table), ({ type, payload }) => {
    const set = type === NFT_MSG_NEWSET ? decodeSet(payload) : null;
    if (set === null || set.tableName !== table.name) return null;
    const { name, keyType, keySize_bytes, flags } = set;
    return { name, keyType, keySize_bytes, flags };
  });
}

/** The keys in a set; none if there is no such set. */
export function listElements(
  connection: NetlinkConnection,
  table: TableName,
  setName: string,
): Uint8Array[] {
  return listIn(
    connection,
    listElementsRequest(table, setName),
    ({ type, payload }) => type === NFT_MSG_NEWSETELEM ? decodeElements(payload) : null,
  ).flat();
}

/**
 * The number of the last change to any table of the namespace. Throws EINVAL where the kernel has
 * no nftables.
 */
export function getGeneration(connection: NetlinkConnection): number {
  const messages = connection.request({
    type: NFT_MSG_GETGEN,
    flags: 0,
    payload: startPayload(null).finish(),
    operation: "get firewall generation",
    object: "",
  });
  const found = messages.find(({ type }) => type === NFT_MSG_NEWGEN);
  if (found === undefined) throw new NetlinkDecodeError("firewall generation", "an empty answer");
  familyOf(found.payload, "firewall generation");
  const attributes = Attributes.parse(found.payload.subarray(NFGENMSG_SIZE), "firewall generation");
  const generation = attributes.u32be(NFTA_GEN_ID);
  if (generation === undefined) throw new NetlinkDecodeError("firewall generation", "no number");
  return generation;
}
