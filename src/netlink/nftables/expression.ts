/**
 * The expressions that rules are made of (`linux/netfilter/nf_tables.h`): a virtual machine's
 * instructions. Those that Selvage uses; every other one is known by its name alone.
 */
import { Attributes, NLA_F_NESTED, type PayloadWriter } from "../attribute.ts";

/** Registers: verdicts go to 0; 1 to 4 hold 16 bytes each. */
const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;

/** `NFT_RETURN`; `NF_ACCEPT` and `NF_DROP` are in `chain.ts`. */
export const NFT_RETURN = -5;
/** enum nft_meta_keys: the packet's mark, in host order. */
export const NFT_META_MARK = 3;
/** The packet's family as `NFPROTO_*`, one byte. */
export const NFT_META_NFPROTO = 15;
/** enum nft_payload_bases: offsets count from the IP header. */
export const NFT_PAYLOAD_NETWORK_HEADER = 1;
/** `linux/netfilter/nf_nat.h`: the port is random, whatever the packet's was. */
export const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 1 << 4;

// enum nft_cmp_ops
const NFT_CMP_EQ = 0;
const NFT_CMP_NEQ = 1;

// enum nft_expr_attributes
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;

// enum nft_data_attributes, enum nft_verdict_attributes
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

// enum nft_meta_attributes
const NFTA_META_DREG = 1;
const NFTA_META_KEY = 2;

// enum nft_payload_attributes
const NFTA_PAYLOAD_DREG = 1;
const NFTA_PAYLOAD_BASE = 2;
const NFTA_PAYLOAD_OFFSET = 3;
const NFTA_PAYLOAD_LEN = 4;

// enum nft_bitwise_attributes
const NFTA_BITWISE_SREG = 1;
const NFTA_BITWISE_DREG = 2;
const NFTA_BITWISE_LEN = 3;
const NFTA_BITWISE_MASK = 4;
const NFTA_BITWISE_XOR = 5;
const NFTA_BITWISE_OP = 6;
/** enum nft_bitwise_ops: `(value & mask) ^ xor` */
const NFT_BITWISE_BOOL = 0;

// enum nft_cmp_attributes
const NFTA_CMP_SREG = 1;
const NFTA_CMP_OP = 2;
const NFTA_CMP_DATA = 3;

// enum nft_immediate_attributes
const NFTA_IMMEDIATE_DREG = 1;
const NFTA_IMMEDIATE_DATA = 2;

// enum nft_masq_attributes
const NFTA_MASQ_FLAGS = 1;
const NFTA_MASQ_REG_PROTO_MIN = 2;
const NFTA_MASQ_REG_PROTO_MAX = 3;

// enum nft_match_attributes
const NFTA_MATCH_NAME = 1;
const NFTA_MATCH_INFO = 3;

/** One instruction. Arrays are owned by it. */
export type NftExpression =
  /** Loads what is known of the packet besides its bytes. */
  | { readonly type: "meta"; readonly register: number; readonly key: number }
  /** Loads bytes of the packet. */
  | {
    readonly type: "payload";
    readonly register: number;
    readonly base: number;
    readonly offset: number;
    readonly size_bytes: number;
  }
  /** `register = (register & mask) ^ xor` */
  | {
    readonly type: "bitwise";
    readonly register: number;
    readonly mask: Uint8Array;
    readonly xor: Uint8Array;
  }
  /** Ends the rule unless the register is, or is not, the value. */
  | {
    readonly type: "cmp";
    readonly register: number;
    readonly isEqual: boolean;
    readonly value: Uint8Array;
  }
  /** The rule's verdict: `NF_ACCEPT`, `NFT_RETURN` and others without a chain. */
  | { readonly type: "verdict"; readonly code: number }
  /** The packet leaves with the address of the link that it leaves through. */
  | { readonly type: "masq"; readonly flags: number }
  /** A jump or goto to another chain of the table. */
  | { readonly type: "jump"; readonly chainName: string }
  /** The comment of a rule that iptables-nft made; newer ones have it in the rule's own data. */
  | { readonly type: "comment"; readonly text: string }
  /** What none of ours is. */
  | { readonly type: "other"; readonly name: string };

function writeValue(writer: PayloadWriter, type: number, value: Uint8Array): void {
  writer.nested(NLA_F_NESTED | type, () => writer.attribute(NFTA_DATA_VALUE, value));
}

function writeVerdict(writer: PayloadWriter, code: number): void {
  writer.attributeU32be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  writer.nested(NLA_F_NESTED | NFTA_IMMEDIATE_DATA, () => {
    writer.nested(NLA_F_NESTED | NFTA_DATA_VERDICT, () => {
      writer.attributeU32be(NFTA_VERDICT_CODE, code);
    });
  });
}

/** An expression that can be written. */
export type KnownExpression = Exclude<
  NftExpression,
  { readonly type: "other" | "jump" | "comment" }
>;

function writeData(writer: PayloadWriter, expression: KnownExpression): void {
  switch (expression.type) {
    case "meta":
      writer.attributeU32be(NFTA_META_KEY, expression.key)
        .attributeU32be(NFTA_META_DREG, expression.register);
      break;
    case "payload":
      writer.attributeU32be(NFTA_PAYLOAD_DREG, expression.register)
        .attributeU32be(NFTA_PAYLOAD_BASE, expression.base)
        .attributeU32be(NFTA_PAYLOAD_OFFSET, expression.offset)
        .attributeU32be(NFTA_PAYLOAD_LEN, expression.size_bytes);
      break;
    case "bitwise":
      writer.attributeU32be(NFTA_BITWISE_SREG, expression.register)
        .attributeU32be(NFTA_BITWISE_DREG, expression.register)
        .attributeU32be(NFTA_BITWISE_LEN, expression.mask.length);
      writeValue(writer, NFTA_BITWISE_MASK, expression.mask);
      writeValue(writer, NFTA_BITWISE_XOR, expression.xor);
      break;
    case "cmp":
      writer.attributeU32be(NFTA_CMP_SREG, expression.register)
        .attributeU32be(NFTA_CMP_OP, expression.isEqual ? NFT_CMP_EQ : NFT_CMP_NEQ);
      writeValue(writer, NFTA_CMP_DATA, expression.value);
      break;
    case "verdict":
      writeVerdict(writer, expression.code);
      break;
    case "masq":
      if (expression.flags !== 0) writer.attributeU32be(NFTA_MASQ_FLAGS, expression.flags);
      break;
  }
}

/** The kernel's name of it. */
function nameOf({ type }: KnownExpression): string {
  return type === "verdict" ? "immediate" : type;
}

/** Writes what stands inside one element of a rule's list. */
export function writeExpression(writer: PayloadWriter, expression: KnownExpression): void {
  writer.attributeText(NFTA_EXPR_NAME, nameOf(expression));
  writer.nested(NLA_F_NESTED | NFTA_EXPR_DATA, () => writeData(writer, expression));
}

/** Likewise, of a counter that begins at 0. */
export function writeCounter(writer: PayloadWriter): void {
  writer.attributeText(NFTA_EXPR_NAME, "counter");
  writer.nested(NLA_F_NESTED | NFTA_EXPR_DATA, () => {});
}

/** A copy of the value inside a `NFTA_*_DATA`; undefined: there is none. */
function valueOf(attributes: Attributes, type: number): Uint8Array | undefined {
  return attributes.nested(type)?.bytes(NFTA_DATA_VALUE)?.slice();
}

function decodeMeta(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_META_DREG);
  const key = data.u32be(NFTA_META_KEY);
  // Without a register to load it sets what is known of the packet.
  if (register === undefined || key === undefined) return null;
  return { type: "meta", register, key };
}

function decodePayload(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_PAYLOAD_DREG);
  const base = data.u32be(NFTA_PAYLOAD_BASE);
  const offset = data.u32be(NFTA_PAYLOAD_OFFSET);
  const size_bytes = data.u32be(NFTA_PAYLOAD_LEN);
  // Without a register to load it writes to the packet.
  if (register === undefined || base === undefined) return null;
  if (offset === undefined || size_bytes === undefined) return null;
  return { type: "payload", register, base, offset, size_bytes };
}

function decodeBitwise(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_BITWISE_SREG);
  const mask = valueOf(data, NFTA_BITWISE_MASK);
  const xor = valueOf(data, NFTA_BITWISE_XOR);
  if (register === undefined || register !== data.u32be(NFTA_BITWISE_DREG)) return null;
  if ((data.u32be(NFTA_BITWISE_OP) ?? NFT_BITWISE_BOOL) !== NFT_BITWISE_BOOL) return null;
  if (mask === undefined || xor === undefined) return null;
  return { type: "bitwise", register, mask, xor };
}

function decodeCmp(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_CMP_SREG);
  const op = data.u32be(NFTA_CMP_OP);
  const value = valueOf(data, NFTA_CMP_DATA);
  if (register === undefined || value === undefined) return null;
  if (op !== NFT_CMP_EQ && op !== NFT_CMP_NEQ) return null;
  return { type: "cmp", register, isEqual: op === NFT_CMP_EQ, value };
}

function decodeImmediate(data: Attributes): NftExpression | null {
  const verdict = data.nested(NFTA_IMMEDIATE_DATA)?.nested(NFTA_DATA_VERDICT);
  const code = verdict?.u32be(NFTA_VERDICT_CODE);
  if (data.u32be(NFTA_IMMEDIATE_DREG) !== NFT_REG_VERDICT || code === undefined) return null;
  const chainName = verdict?.text(NFTA_VERDICT_CHAIN);
  if (chainName !== undefined) return { type: "jump", chainName };
  return { type: "verdict", code: code | 0 };
}

function decodeMasq(data: Attributes): NftExpression | null {
  for (const ports of [NFTA_MASQ_REG_PROTO_MIN, NFTA_MASQ_REG_PROTO_MAX]) {
    if (data.bytes(ports) !== undefined) return null;
  }
  return { type: "masq", flags: data.u32be(NFTA_MASQ_FLAGS) ?? 0 };
}

/** A match of iptables: of these only the comment is read (`struct xt_comment_info`). */
function decodeMatch(data: Attributes): NftExpression | null {
  const text = data.text(NFTA_MATCH_INFO);
  if (data.text(NFTA_MATCH_NAME) !== "comment" || text === undefined) return null;
  return { type: "comment", text };
}

const DECODERS: Readonly<Record<string, (data: Attributes) => NftExpression | null>> = {
  meta: decodeMeta,
  payload: decodePayload,
  bitwise: decodeBitwise,
  cmp: decodeCmp,
  immediate: decodeImmediate,
  masq: decodeMasq,
  match: decodeMatch,
};

/**
 * Reads one element of a rule's list, borrowed. What is none of ours comes as `other`. Throws
 * `NetlinkDecodeError`.
 */
export function decodeExpression(element: Uint8Array): NftExpression {
  const attributes = Attributes.parse(element, "firewall expression");
  const name = attributes.text(NFTA_EXPR_NAME) ?? "";
  // What others have in theirs is not looked at.
  const decode = Object.hasOwn(DECODERS, name) ? DECODERS[name] : undefined;
  const data = decode && attributes.nested(NFTA_EXPR_DATA);
  return (data && decode?.(data)) ?? { type: "other", name };
}
