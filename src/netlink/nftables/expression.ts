/**
 * The expressions that rules are made of (`linux/netfilter/nf_tables.h`): a virtual machine's
 * instructions. Those that Selvage uses; every other one is known by its name alone.
 */
import { Attributes, NLA_F_NESTED, type PayloadWriter } from "../attribute.ts";

/** Registers: verdicts go to 0; 1 to 4 hold 16 bytes each. */
const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;

/**
 * The register of 4 bytes with this number, 0 to 15, as the kernel names it: one that begins one
 * of the four larger ones goes by that one's name.
 */
export function register32(word: number): number {
  return word % 4 === 0 ? NFT_REG_1 + word / 4 : 8 + word;
}

/** `NFT_RETURN`, `NFT_JUMP`; `NF_ACCEPT` and `NF_DROP` are in `chain.ts`. */
export const NFT_RETURN = -5;
const NFT_JUMP = -3;
const NFT_GOTO = -4;
// enum nft_meta_keys; numbers are in host order, names padded with NULs to IFNAMSIZ
export const NFT_META_MARK = 3;
export const NFT_META_IIF = 4;
export const NFT_META_OIF = 5;
export const NFT_META_IIFNAME = 6;
export const NFT_META_OIFNAME = 7;
export const NFT_META_SKUID = 10;
/** `NFPROTO_*`, one byte. */
export const NFT_META_NFPROTO = 15;
export const NFT_META_L4PROTO = 16;
export const NFT_META_PKTTYPE = 19;
export const NFT_META_IIFKIND = 26;
// enum nft_payload_bases: where offsets count from
export const NFT_PAYLOAD_NETWORK_HEADER = 1;
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2;
// enum nft_fib_result, enum nft_fib_flags
export const NFT_FIB_RESULT_OIF = 1;
export const NFT_FIB_RESULT_ADDRTYPE = 3;
export const NFTA_FIB_F_SADDR = 1 << 0;
export const NFTA_FIB_F_IIF = 1 << 3;
export const NFTA_FIB_F_PRESENT = 1 << 5;
/** `linux/netfilter/nf_nat.h`: the port is random, whatever the packet's was. */
export const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 1 << 4;

// enum nft_cmp_ops
const NFT_CMP_EQ = 0;
const NFT_CMP_NEQ = 1;
const NFT_CMP_LTE = 3;
const NFT_CMP_GTE = 5;

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
const NFTA_META_SREG = 3;

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

// enum nft_lookup_attributes
const NFTA_LOOKUP_SET = 1;
const NFTA_LOOKUP_SREG = 2;
const NFTA_LOOKUP_DREG = 3;
const NFTA_LOOKUP_FLAGS = 5;
const NFT_LOOKUP_F_INV = 1;

// enum nft_fib_attributes
const NFTA_FIB_DREG = 1;
const NFTA_FIB_RESULT = 2;
const NFTA_FIB_FLAGS = 3;

/** enum nft_counter_attributes */
const NFTA_COUNTER_PACKETS = 2;

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
  /** Sets it. */
  | { readonly type: "meta_set"; readonly register: number; readonly key: number }
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
  /** Ends the rule unless the register, read as a big-endian number, is within the bound. */
  | {
    readonly type: "bound";
    readonly register: number;
    readonly isLeast: boolean;
    readonly value: Uint8Array;
  }
  /** Ends the rule unless what begins at the register is, or is not, in the set. */
  | {
    readonly type: "lookup";
    readonly register: number;
    readonly set: string;
    readonly isMember: boolean;
  }
  /** Loads what the routing tables say of the packet: `NFTA_FIB_F_*`, `NFT_FIB_RESULT_*`. */
  | {
    readonly type: "fib";
    readonly register: number;
    readonly flags: number;
    readonly result: number;
  }
  /** Counts the packets that get this far. */
  | { readonly type: "counter"; readonly packetCount: number }
  /** The rule's verdict: `NF_ACCEPT`, `NFT_RETURN` and others without a chain. */
  | { readonly type: "verdict"; readonly code: number }
  /** The packet leaves with the address of the link that it leaves through. */
  | { readonly type: "masq"; readonly flags: number }
  /**
   * Goes on in another chain of the table, and comes back if that decides nothing, unless it says
   * that it is a goto.
   */
  | { readonly type: "jump"; readonly chainName: string; readonly isGoto?: true }
  /** The comment of a rule that iptables-nft made; newer ones have it in the rule's own data. */
  | { readonly type: "comment"; readonly text: string }
  /** What none of ours is. */
  | { readonly type: "other"; readonly name: string };

function writeValue(writer: PayloadWriter, type: number, value: Uint8Array): void {
  writer.nested(NLA_F_NESTED | type, () => writer.attribute(NFTA_DATA_VALUE, value));
}

function writeVerdict(writer: PayloadWriter, code: number, chainName?: string): void {
  writer.attributeU32be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  writer.nested(NLA_F_NESTED | NFTA_IMMEDIATE_DATA, () => {
    writer.nested(NLA_F_NESTED | NFTA_DATA_VERDICT, () => {
      writer.attributeU32be(NFTA_VERDICT_CODE, code);
      if (chainName !== undefined) writer.attributeText(NFTA_VERDICT_CHAIN, chainName);
    });
  });
}

function writeCmp(writer: PayloadWriter, register: number, op: number, value: Uint8Array): void {
  writer.attributeU32be(NFTA_CMP_SREG, register).attributeU32be(NFTA_CMP_OP, op);
  writeValue(writer, NFTA_CMP_DATA, value);
}

/** An expression that can be written. */
export type KnownExpression = Exclude<
  NftExpression,
  { readonly type: "other" | "comment" }
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
    case "meta_set":
      writer.attributeU32be(NFTA_META_KEY, expression.key)
        .attributeU32be(NFTA_META_SREG, expression.register);
      break;
    case "cmp": {
      const op = expression.isEqual ? NFT_CMP_EQ : NFT_CMP_NEQ;
      writeCmp(writer, expression.register, op, expression.value);
      break;
    }
    case "bound": {
      const op = expression.isLeast ? NFT_CMP_GTE : NFT_CMP_LTE;
      writeCmp(writer, expression.register, op, expression.value);
      break;
    }
    case "lookup":
      writer.attributeText(NFTA_LOOKUP_SET, expression.set)
        .attributeU32be(NFTA_LOOKUP_SREG, expression.register);
      if (!expression.isMember) writer.attributeU32be(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
      break;
    case "fib":
      writer.attributeU32be(NFTA_FIB_DREG, expression.register)
        .attributeU32be(NFTA_FIB_RESULT, expression.result)
        .attributeU32be(NFTA_FIB_FLAGS, expression.flags);
      break;
    case "counter":
      break;
    case "jump":
      writeVerdict(writer, expression.isGoto ? NFT_GOTO : NFT_JUMP, expression.chainName);
      break;
    case "verdict":
      writeVerdict(writer, expression.code);
      break;
    case "masq":
      if (expression.flags !== 0) writer.attributeU32be(NFTA_MASQ_FLAGS, expression.flags);
      break;
  }
}

/** The kernel's names of those that have another than ours. */
const KERNEL_NAMES: Readonly<Record<string, string>> = {
  verdict: "immediate",
  jump: "immediate",
  meta_set: "meta",
  bound: "cmp",
};

/** The kernel's name of it. */
function nameOf({ type }: KnownExpression): string {
  return KERNEL_NAMES[type] ?? type;
}

/** Writes what stands inside one element of a rule's list. */
export function writeExpression(writer: PayloadWriter, expression: KnownExpression): void {
  writer.attributeText(NFTA_EXPR_NAME, nameOf(expression));
  writer.nested(NLA_F_NESTED | NFTA_EXPR_DATA, () => writeData(writer, expression));
}

/** A copy of the value inside a `NFTA_*_DATA`; undefined: there is none. */
function valueOf(attributes: Attributes, type: number): Uint8Array | undefined {
  return attributes.nested(type)?.bytes(NFTA_DATA_VALUE)?.slice();
}

function decodeMeta(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_META_DREG);
  const key = data.u32be(NFTA_META_KEY);
  const source = data.u32be(NFTA_META_SREG);
  if (key === undefined) return null;
  if (register !== undefined) return { type: "meta", register, key };
  return source === undefined ? null : { type: "meta_set", register: source, key };
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
  switch (op) {
    case NFT_CMP_EQ:
    case NFT_CMP_NEQ:
      return { type: "cmp", register, isEqual: op === NFT_CMP_EQ, value };
    case NFT_CMP_GTE:
    case NFT_CMP_LTE:
      return { type: "bound", register, isLeast: op === NFT_CMP_GTE, value };
    default:
      return null;
  }
}

function decodeLookup(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_LOOKUP_SREG);
  const set = data.text(NFTA_LOOKUP_SET);
  const flags = data.u32be(NFTA_LOOKUP_FLAGS) ?? 0;
  // With a register to load it is a map's.
  if (register === undefined || set === undefined || data.bytes(NFTA_LOOKUP_DREG)) return null;
  if ((flags & ~NFT_LOOKUP_F_INV) !== 0) return null;
  return { type: "lookup", register, set, isMember: flags === 0 };
}

function decodeFib(data: Attributes): NftExpression | null {
  const register = data.u32be(NFTA_FIB_DREG);
  const result = data.u32be(NFTA_FIB_RESULT);
  const flags = data.u32be(NFTA_FIB_FLAGS);
  if (register === undefined || result === undefined || flags === undefined) return null;
  return { type: "fib", register, flags, result };
}

function decodeCounter(data: Attributes): NftExpression {
  return { type: "counter", packetCount: Number(data.u64be(NFTA_COUNTER_PACKETS) ?? 0n) };
}

function decodeImmediate(data: Attributes): NftExpression | null {
  const verdict = data.nested(NFTA_IMMEDIATE_DATA)?.nested(NFTA_DATA_VERDICT);
  const code = verdict?.u32be(NFTA_VERDICT_CODE);
  if (data.u32be(NFTA_IMMEDIATE_DREG) !== NFT_REG_VERDICT || code === undefined) return null;
  const chainName = verdict?.text(NFTA_VERDICT_CHAIN);
  if (chainName === undefined) return { type: "verdict", code: code | 0 };
  const isGoto = (code | 0) === NFT_GOTO;
  return isGoto ? { type: "jump", chainName, isGoto } : { type: "jump", chainName };
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
  lookup: decodeLookup,
  fib: decodeFib,
  counter: decodeCounter,
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
