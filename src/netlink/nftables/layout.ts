/**
 * What all nftables messages have in common (`linux/netfilter/nfnetlink.h`, `nf_tables.h`).
 * Constants carry the kernel's names. Numbers in attributes are in network byte order.
 */
import { PayloadWriter } from "../attribute.ts";
import { NetlinkDecodeError } from "../error.ts";
import { AF_INET, AF_INET6, familyNumber, viewOf } from "../layout.ts";

/** Upper byte of a message's type. */
export const NFNL_SUBSYS_NFTABLES = 10;
const NFNETLINK_V0 = 0;

// struct nfgenmsg
const NFGEN_FAMILY_OFFSET = 0;
const NFGEN_VERSION_OFFSET = 1;
const NFGEN_RES_ID_OFFSET = NFGEN_VERSION_OFFSET + 1;
/** `sizeof(struct nfgenmsg)` */
export const NFGENMSG_SIZE = NFGEN_RES_ID_OFFSET + 2;

/** The type of a message, from its `NFT_MSG_*`. */
function nftMessage(number: number): number {
  return NFNL_SUBSYS_NFTABLES << 8 | number;
}

// enum nf_tables_msg_types
export const NFT_MSG_NEWTABLE = nftMessage(0);
export const NFT_MSG_GETTABLE = nftMessage(1);
export const NFT_MSG_DELTABLE = nftMessage(2);
export const NFT_MSG_NEWCHAIN = nftMessage(3);
export const NFT_MSG_GETCHAIN = nftMessage(4);
export const NFT_MSG_DELCHAIN = nftMessage(5);
export const NFT_MSG_NEWRULE = nftMessage(6);
export const NFT_MSG_GETRULE = nftMessage(7);
export const NFT_MSG_DELRULE = nftMessage(8);
export const NFT_MSG_NEWSET = nftMessage(9);
export const NFT_MSG_GETSET = nftMessage(10);
export const NFT_MSG_DELSET = nftMessage(11);
export const NFT_MSG_NEWSETELEM = nftMessage(12);
export const NFT_MSG_GETSETELEM = nftMessage(13);
export const NFT_MSG_DELSETELEM = nftMessage(14);
export const NFT_MSG_NEWGEN = nftMessage(15);
export const NFT_MSG_GETGEN = nftMessage(16);

/** Objects have names of at most `NFT_NAME_MAXLEN - 1` bytes; a longest rule has two of them. */
const PAYLOAD_BYTES_MAX = 2048;

/** `NFPROTO_INET` (`linux/netfilter.h`): tables whose chains see packets of both families. */
const NFPROTO_INET = 1;

/** Of the packets that a table's chains see: `ip`, `ip6` or `inet`. */
export type TableFamily = 4 | 6 | "inet";

/** A table: names are unique in a family. */
export interface TableName {
  readonly family: TableFamily;
  readonly name: string;
}

/** As nft writes it: `ip`, `ip6` or `inet`. */
export function familyText(family: TableFamily): string {
  return family === "inet" ? family : family === 4 ? "ip" : "ip6";
}

/** As nft writes it: `ip selvage`. */
export function tableText({ family, name }: TableName): string {
  return `${familyText(family)} ${name}`;
}

function familyCode(family: TableFamily | null): number {
  if (family === null) return 0;
  return family === "inet" ? NFPROTO_INET : familyNumber(family);
}

/**
 * A writer with `struct nfgenmsg` written, for at most `sizeMax_bytes`; `resource` is 0 except for
 * batches.
 */
export function startPayload(
  family: TableFamily | null,
  resource = 0,
  sizeMax_bytes = PAYLOAD_BYTES_MAX,
): PayloadWriter {
  return new PayloadWriter(new Uint8Array(sizeMax_bytes))
    .u8(familyCode(family)).u8(NFNETLINK_V0).u16be(resource);
}

/** The family of a message; null: none of `ip`, `ip6` and `inet`. Throws `NetlinkDecodeError`. */
export function familyOf(payload: Uint8Array, what: string): TableFamily | null {
  if (payload.length < NFGENMSG_SIZE) {
    throw new NetlinkDecodeError(what, `${payload.length} bytes`);
  }
  const code = viewOf(payload).getUint8(NFGEN_FAMILY_OFFSET);
  if (code === NFPROTO_INET) return "inet";
  return code === AF_INET ? 4 : code === AF_INET6 ? 6 : null;
}
