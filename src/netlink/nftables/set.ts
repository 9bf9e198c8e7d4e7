/** Sets of nftables: named hash tables, without intervals, that rules look keys up in. */
import { Attributes, NLA_F_NESTED, parseAttributes } from "../attribute.ts";
import { NetlinkDecodeError } from "../error.ts";
import { NLM_F_CREATE } from "../message.ts";
import type { NetlinkRequest } from "../request.ts";
import {
  familyOf,
  NFGENMSG_SIZE,
  NFT_MSG_DELSET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  startPayload,
  type TableName,
  tableText,
} from "./layout.ts";

// enum nft_set_attributes
const NFTA_SET_TABLE = 1;
const NFTA_SET_NAME = 2;
const NFTA_SET_FLAGS = 3;
const NFTA_SET_KEY_TYPE = 4;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_ID = 10;

// enum nft_set_elem_list_attributes
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;

const NFTA_SET_ELEM_KEY = 1;
const NFTA_DATA_VALUE = 1;
const NFTA_LIST_ELEM = 1;

/** The kernel only keeps it; nft shows keys by it (its `enum datatypes`, 6 bits each). */
export const KEY_TYPES = { ipv4_addr: 7, ipv6_addr: 8 } as const;
const KEY_TYPE_BITS = 6;
const KEY_SIZES_BYTES = { ipv4_addr: 4, ipv6_addr: 16 } as const;
export type KeyType = keyof typeof KEY_TYPES;

/** Keys in one message; with the longest it has a third of the 64 KB that an attribute can have. */
export const ELEMENTS_PER_MESSAGE_MAX = 256;
/** The headers of list, element, key and value. */
const ELEMENT_HEADERS_BYTES = 16;
const MESSAGE_HEADER_BYTES_MAX = 512;

export interface NftSet {
  readonly name: string;
  /** As `KEY_TYPES` has it, several types one after another. */
  readonly keyType: number;
  readonly keySize_bytes: number;
  /** `NFT_SET_*`; 0 for a plain one. */
  readonly flags: number;
}

/** A plain set whose keys are these values one after another. */
export function plainSet(name: string, key: readonly KeyType[]): NftSet {
  return {
    name,
    keyType: key.reduce((code, type) => code << KEY_TYPE_BITS | KEY_TYPES[type], 0),
    keySize_bytes: key.reduce((sum, type) => sum + KEY_SIZES_BYTES[type], 0),
    flags: 0,
  };
}

/** Reads the payload of an NFT_MSG_NEWSET message. Throws `NetlinkDecodeError`. */
export function decodeSet(payload: Uint8Array): NftSet & { readonly tableName: string } | null {
  if (familyOf(payload, "firewall set") === null) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall set");
  const tableName = attributes.text(NFTA_SET_TABLE);
  const name = attributes.text(NFTA_SET_NAME);
  if (tableName === undefined || name === undefined) {
    throw new NetlinkDecodeError("firewall set", "no name");
  }
  return {
    tableName,
    name,
    keyType: attributes.u32be(NFTA_SET_KEY_TYPE) ?? 0,
    keySize_bytes: attributes.u32be(NFTA_SET_KEY_LEN) ?? 0,
    flags: attributes.u32be(NFTA_SET_FLAGS) ?? 0,
  };
}

function setPayload(table: TableName, name: string) {
  return startPayload(table.family).attributeText(NFTA_SET_TABLE, table.name)
    .attributeText(NFTA_SET_NAME, name);
}

/** Asks for the sets of a table. */
export function listSetsRequest(table: TableName): NetlinkRequest {
  return {
    type: NFT_MSG_GETSET,
    flags: 0,
    payload: startPayload(table.family).attributeText(NFTA_SET_TABLE, table.name).finish(),
    operation: "list firewall sets",
    object: tableText(table),
  };
}

/** Part of a transaction, in which no two have the same `id`. Changes nothing if it is there. */
export function addSetRequest(table: TableName, set: NftSet, id: number): NetlinkRequest {
  return {
    type: NFT_MSG_NEWSET,
    flags: NLM_F_CREATE,
    payload: setPayload(table, set.name).attributeU32be(NFTA_SET_FLAGS, set.flags)
      .attributeU32be(NFTA_SET_KEY_TYPE, set.keyType)
      .attributeU32be(NFTA_SET_KEY_LEN, set.keySize_bytes)
      .attributeU32be(NFTA_SET_ID, id).finish(),
    operation: "add firewall set",
    object: `${tableText(table)} ${set.name}`,
  };
}

/** Part of a transaction. With all that is in it; EBUSY while a rule looks something up there. */
export function deleteSetRequest(table: TableName, name: string): NetlinkRequest {
  return {
    type: NFT_MSG_DELSET,
    flags: 0,
    payload: setPayload(table, name).finish(),
    operation: "delete firewall set",
    object: `${tableText(table)} ${name}`,
  };
}

function elementsRequest(
  type: number,
  flags: number,
  operation: string,
  table: TableName,
  setName: string,
  keys: readonly Uint8Array[],
): NetlinkRequest {
  const keys_bytes = keys.reduce((sum, key) => sum + key.length + ELEMENT_HEADERS_BYTES, 0);
  const writer = startPayload(table.family, 0, MESSAGE_HEADER_BYTES_MAX + keys_bytes)
    .attributeText(NFTA_SET_ELEM_LIST_TABLE, table.name)
    .attributeText(NFTA_SET_ELEM_LIST_SET, setName);
  if (keys.length > 0) {
    writer.nested(NLA_F_NESTED | NFTA_SET_ELEM_LIST_ELEMENTS, () => {
      for (const key of keys) {
        writer.nested(NLA_F_NESTED | NFTA_LIST_ELEM, () => {
          writer.nested(NLA_F_NESTED | NFTA_SET_ELEM_KEY, () => {
            writer.attribute(NFTA_DATA_VALUE, key);
          });
        });
      }
    });
  }
  const object = `${tableText(table)} ${setName}`;
  return { type, flags, payload: writer.finish(), operation, object };
}

/** Asks for all keys of a set. */
export function listElementsRequest(table: TableName, setName: string): NetlinkRequest {
  return elementsRequest(NFT_MSG_GETSETELEM, 0, "list elements of", table, setName, []);
}

/** Part of a transaction: at most `ELEMENTS_PER_MESSAGE_MAX` keys. Those that are there stay. */
export function addElementsRequest(
  table: TableName,
  setName: string,
  keys: readonly Uint8Array[],
): NetlinkRequest {
  const operation = `add ${keys.length} elements to`;
  return elementsRequest(NFT_MSG_NEWSETELEM, NLM_F_CREATE, operation, table, setName, keys);
}

/** The same for deletion; ENOENT if one of the keys is not there. */
export function deleteElementsRequest(
  table: TableName,
  setName: string,
  keys: readonly Uint8Array[],
): NetlinkRequest {
  const operation = `delete ${keys.length} elements of`;
  return elementsRequest(NFT_MSG_DELSETELEM, 0, operation, table, setName, keys);
}

/** The keys in the payload of an NFT_MSG_NEWSETELEM message, copied. */
export function decodeElements(payload: Uint8Array): Uint8Array[] {
  familyOf(payload, "firewall set elements");
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall set elements");
  const list = attributes.bytes(NFTA_SET_ELEM_LIST_ELEMENTS) ?? new Uint8Array();
  return parseAttributes(list, "firewall set elements").map(({ value }) => {
    const key = Attributes.parse(value, "firewall set element").nested(NFTA_SET_ELEM_KEY)
      ?.bytes(NFTA_DATA_VALUE);
    if (key === undefined) throw new NetlinkDecodeError("firewall set element", "no key");
    return key.slice();
  });
}
