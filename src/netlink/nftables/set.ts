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
const NFTA_SET_USERDATA = 13;

// enum nft_set_elem_list_attributes
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;

const NFTA_SET_ELEM_KEY = 1;
const NFTA_DATA_VALUE = 1;
const NFTA_LIST_ELEM = 1;

/** The kernel only keeps it; nft shows keys by it (its `enum datatypes`, 6 bits each). */
const KEY_TYPES = { ipv4_addr: 7, ipv6_addr: 8 } as const;
const KEY_TYPE_INTEGER = 4;
const KEY_TYPE_BITS = 6;
const KEY_SIZES_BYTES = { ipv4_addr: 4, ipv6_addr: 16 } as const;
/** Parts of keys begin at multiples of this. */
const KEY_ALIGNMENT_BYTES = 4;
/** What a part of a key is compared with: an address, or bytes after the IP header. */
export type KeyType =
  | keyof typeof KEY_TYPES
  | { readonly offset_bytes: number; readonly size_bytes: number };

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
  const codeOf = (type: KeyType) => typeof type === "string" ? KEY_TYPES[type] : KEY_TYPE_INTEGER;
  const sizeOf = (type: KeyType) =>
    typeof type === "string"
      ? KEY_SIZES_BYTES[type]
      : Math.max(type.size_bytes, KEY_ALIGNMENT_BYTES);
  return {
    name,
    keyType: key.reduce<number>((code, type) => code << KEY_TYPE_BITS | codeOf(type), 0),
    keySize_bytes: key.reduce<number>((sum, type) => sum + sizeOf(type), 0),
    flags: 0,
  };
}

/** An entry of a set's own data: type, length, value (libnftnl's `udata.h`). */
function dataEntry(type: number, value: readonly number[]): number[] {
  return [type, value.length, ...value];
}

/** The same of a number, in host order. */
function numberEntry(type: number, value: number): number[] {
  return dataEntry(type, [0, 8, 16, 24].map((shift) => value >>> shift & 0xff));
}

// nft's numbers: enum nftnl_udata_set_types, enum set_expr_types, enum proto_desc_id and others
const UDATA_SET_KEYBYTEORDER = 0;
const UDATA_SET_KEY_TYPEOF = 3;
const EXPR_PAYLOAD = 7;
const EXPR_CONCAT = 13;
const SOURCE_FIELDS = {
  ipv4_addr: { header: 12, field: 11 },
  ipv6_addr: { header: 13, field: 8 },
} as const;
const PROTO_BASE_TRANSPORT_HDR = 3;

/** How nft would write what is compared: `ip saddr`, or bytes such as `@th,336,32`. */
function typeofPart(type: KeyType): number[] {
  if (typeof type === "string") {
    const { header, field } = SOURCE_FIELDS[type];
    const value = [...numberEntry(0, header), ...numberEntry(1, field)];
    return [...numberEntry(0, EXPR_PAYLOAD), ...dataEntry(1, value)];
  }
  const value = [
    ...numberEntry(0, 0),
    ...numberEntry(1, 0),
    ...numberEntry(2, PROTO_BASE_TRANSPORT_HDR),
    ...numberEntry(3, 8 * type.offset_bytes),
    ...numberEntry(4, 8 * type.size_bytes),
  ];
  return [...numberEntry(0, EXPR_PAYLOAD), ...dataEntry(1, value)];
}

/**
 * What nft keeps with a set whose keys are not of its named types. Without it a listing of the
 * host's rules could not be read back, as `nftables.service` does. Empty: there is no need.
 */
export function keyTypeof(key: readonly KeyType[]): Uint8Array {
  if (key.every((type) => typeof type === "string")) return new Uint8Array();
  const parts = key.flatMap((type, i) => dataEntry(i, typeofPart(type)));
  const value = key.length === 1
    ? typeofPart(key[0]!)
    : [...numberEntry(0, EXPR_CONCAT), ...dataEntry(1, parts)];
  return Uint8Array.from([
    ...numberEntry(UDATA_SET_KEYBYTEORDER, 0),
    ...dataEntry(UDATA_SET_KEY_TYPEOF, value),
  ]);
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
export function addSetRequest(
  table: TableName,
  name: string,
  key: readonly KeyType[],
  id: number,
): NetlinkRequest {
  const set = plainSet(name, key);
  const writer = setPayload(table, name).attributeU32be(NFTA_SET_FLAGS, set.flags)
    .attributeU32be(NFTA_SET_KEY_TYPE, set.keyType)
    .attributeU32be(NFTA_SET_KEY_LEN, set.keySize_bytes)
    .attributeU32be(NFTA_SET_ID, id);
  const userData = keyTypeof(key);
  if (userData.length > 0) writer.attribute(NFTA_SET_USERDATA, userData);
  return {
    type: NFT_MSG_NEWSET,
    flags: NLM_F_CREATE,
    payload: writer.finish(),
    operation: "add firewall set",
    object: `${tableText(table)} ${name}`,
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
