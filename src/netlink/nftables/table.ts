/** Tables of nftables. */
import { Attributes } from "../attribute.ts";
import { NetlinkDecodeError } from "../error.ts";
import { NLM_F_CREATE } from "../message.ts";
import type { NetlinkRequest } from "../request.ts";
import {
  familyOf,
  NFGENMSG_SIZE,
  NFT_MSG_DELTABLE,
  NFT_MSG_GETTABLE,
  NFT_MSG_NEWTABLE,
  startPayload,
  type TableName,
  tableText,
} from "./layout.ts";

// enum nft_table_attributes
export const NFTA_TABLE_NAME = 1;
export const NFTA_TABLE_FLAGS = 2;
export const NFTA_TABLE_USE = 3;

/** A table as it is in the kernel. */
export interface NftTable extends TableName {
  /** `NFT_TABLE_F_*`: dormant, owned; 0 for a common one. */
  readonly flags: number;
  /** How many chains, sets, objects and flow tables are in it. */
  readonly useCount: number;
}

/**
 * Reads the payload of an NFT_MSG_NEWTABLE message; null: of another family. Throws
 * `NetlinkDecodeError`.
 */
export function decodeTable(payload: Uint8Array): NftTable | null {
  const family = familyOf(payload, "firewall table");
  if (family === null) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall table");
  const name = attributes.text(NFTA_TABLE_NAME);
  if (name === undefined) throw new NetlinkDecodeError("firewall table", "no name");
  return {
    family,
    name,
    flags: attributes.u32be(NFTA_TABLE_FLAGS) ?? 0,
    useCount: attributes.u32be(NFTA_TABLE_USE) ?? 0,
  };
}

function request(
  type: number,
  flags: number,
  operation: string,
  table: TableName,
): NetlinkRequest {
  const payload = startPayload(table.family).attributeText(NFTA_TABLE_NAME, table.name).finish();
  return { type, flags, payload, operation, object: tableText(table) };
}

/** Asks for one table; ENOENT if there is none of the name. */
export function getTableRequest(table: TableName): NetlinkRequest {
  return request(NFT_MSG_GETTABLE, 0, "get firewall table", table);
}

/** Part of a transaction. Changes nothing if there is one of the name. */
export function addTableRequest(table: TableName): NetlinkRequest {
  return request(NFT_MSG_NEWTABLE, NLM_F_CREATE, "add firewall table", table);
}

/** Part of a transaction. With all that is in it; ENOENT if there is none of the name. */
export function deleteTableRequest(table: TableName): NetlinkRequest {
  return request(NFT_MSG_DELTABLE, 0, "delete firewall table", table);
}
