/**
 * Netlink messages (`linux/netlink.h`, RFC 3549 section 2.2): header, acknowledgement, end of a
 * dump. Constants carry the kernel's names.
 */
import { Attributes } from "./attribute.ts";
import { NetlinkDecodeError } from "./error.ts";
import {
  align,
  HOST_LITTLE_ENDIAN,
  readU16,
  readU32,
  viewOf,
  writeU16,
  writeU32,
} from "./layout.ts";

// struct nlmsghdr
const NLMSG_LEN_OFFSET = 0;
const NLMSG_TYPE_OFFSET = 4;
const NLMSG_FLAGS_OFFSET = 6;
const NLMSG_SEQ_OFFSET = 8;
const NLMSG_PID_OFFSET = 12;
/** `NLMSG_HDRLEN` */
export const NLMSG_HDRLEN = NLMSG_PID_OFFSET + 4;

// Types below NLMSG_MIN_TYPE are netlink's own.
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_OVERRUN = 4;
export const NLMSG_MIN_TYPE = 0x10;

// Flags of every message.
export const NLM_F_REQUEST = 0x01;
export const NLM_F_MULTI = 0x02;
export const NLM_F_ACK = 0x04;
export const NLM_F_DUMP_INTR = 0x10;

// Flags of GET requests.
export const NLM_F_ROOT = 0x100;
export const NLM_F_MATCH = 0x200;
export const NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH;

// Flags of NEW requests.
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

// Flags of acknowledgements.
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;

// struct nlmsgerr: an int32, then the header of the message it answers.
const NLMSGERR_ERROR_OFFSET = 0;
const NLMSGERR_MSG_OFFSET = NLMSGERR_ERROR_OFFSET + 4;
const NLMSGERR_SIZE = NLMSGERR_MSG_OFFSET + NLMSG_HDRLEN;
/** NLMSG_DONE carries the dump's result as an int32. */
const DONE_SIZE = 4;

// enum nlmsgerr_attrs
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

/** One message. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** The receiver's port for answers, 0 for the kernel. */
  readonly portId: number;
  /** A view into the datagram it came in. */
  readonly payload: Uint8Array;
}

/** How the kernel answered: `errno` 0 is success. */
export interface Acknowledgement {
  readonly errno: number;
  /** The kernel's own words, empty where it had none. */
  readonly text: string;
  /** Where in the request the offending attribute starts, in bytes; null if it did not say. */
  readonly offset: number | null;
}

/** The number of bytes that a message with such a payload takes, padding included. */
export function messageSize_bytes(payload: Uint8Array): number {
  return align(NLMSG_HDRLEN + payload.length);
}

/**
 * Writes one message at `offset` and returns the offset past it, padding included. Every byte in
 * between is written. Throws `RangeError` if it does not fit.
 */
export function writeMessage(buffer: Uint8Array, offset: number, message: NetlinkMessage): number {
  const size_bytes = NLMSG_HDRLEN + message.payload.length;
  const end = offset + align(size_bytes);
  if (end > buffer.length) throw new RangeError(`a message of ${size_bytes} bytes does not fit`);
  writeU32(buffer, offset + NLMSG_LEN_OFFSET, size_bytes);
  writeU16(buffer, offset + NLMSG_TYPE_OFFSET, message.type);
  writeU16(buffer, offset + NLMSG_FLAGS_OFFSET, message.flags);
  writeU32(buffer, offset + NLMSG_SEQ_OFFSET, message.sequence);
  writeU32(buffer, offset + NLMSG_PID_OFFSET, message.portId);
  buffer.set(message.payload, offset + NLMSG_HDRLEN);
  buffer.fill(0, offset + size_bytes, end);
  return end;
}

/**
 * Cuts a datagram into its messages; their payloads are views into it. Throws
 * `NetlinkDecodeError` if a length is shorter than a header or goes past the end.
 */
export function parseMessages(datagram: Uint8Array): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let offset = 0; offset < datagram.length;) {
    const rest = datagram.length - offset;
    if (rest < NLMSG_HDRLEN) {
      throw new NetlinkDecodeError("message", `${rest} bytes where a header should be`);
    }
    const size_bytes = readU32(datagram, offset + NLMSG_LEN_OFFSET);
    if (size_bytes < NLMSG_HDRLEN || size_bytes > rest) {
      throw new NetlinkDecodeError("message", `a length of ${size_bytes} in ${rest} bytes`);
    }
    messages.push({
      type: readU16(datagram, offset + NLMSG_TYPE_OFFSET),
      flags: readU16(datagram, offset + NLMSG_FLAGS_OFFSET),
      sequence: readU32(datagram, offset + NLMSG_SEQ_OFFSET),
      portId: readU32(datagram, offset + NLMSG_PID_OFFSET),
      payload: datagram.subarray(offset + NLMSG_HDRLEN, offset + size_bytes),
    });
    offset += align(size_bytes);
  }
  return messages;
}

function decodeResult(message: NetlinkMessage, what: string, attributes: number): Acknowledgement {
  const value = viewOf(message.payload).getInt32(NLMSGERR_ERROR_OFFSET, HOST_LITTLE_ENDIAN);
  if (value > 0) throw new NetlinkDecodeError(what, `a positive error, ${value}`);
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno: 0 - value, text: "", offset: null };
  const extended = Attributes.parse(message.payload.subarray(attributes), `${what}'s attributes`);
  return {
    errno: 0 - value,
    text: extended.text(NLMSGERR_ATTR_MSG) ?? "",
    offset: extended.u32(NLMSGERR_ATTR_OFFS) ?? null,
  };
}

/**
 * Reads an NLMSG_ERROR message (`struct nlmsgerr`), with its extended acknowledgement. Throws
 * `NetlinkDecodeError`.
 */
export function decodeAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const { payload } = message;
  if (payload.length < NLMSGERR_SIZE) {
    throw new NetlinkDecodeError("acknowledgement", `${payload.length} bytes`);
  }
  // Unless it is capped, the request's payload follows its header.
  let attributes = NLMSGERR_SIZE;
  if ((message.flags & NLM_F_CAPPED) === 0) {
    const quoted = viewOf(payload).getUint32(
      NLMSGERR_MSG_OFFSET + NLMSG_LEN_OFFSET,
      HOST_LITTLE_ENDIAN,
    );
    attributes = quoted < NLMSG_HDRLEN ? Infinity : NLMSGERR_MSG_OFFSET + align(quoted);
  }
  const hasAttributes = (message.flags & NLM_F_ACK_TLVS) !== 0;
  if (hasAttributes && attributes > payload.length) {
    throw new NetlinkDecodeError("acknowledgement", "the request it quotes does not fit in it");
  }
  return decodeResult(message, "acknowledgement", attributes);
}

/** Reads an NLMSG_DONE message, the end of a dump. Throws `NetlinkDecodeError`. */
export function decodeDone(message: NetlinkMessage): Acknowledgement {
  if (message.payload.length < DONE_SIZE) {
    throw new NetlinkDecodeError("end of dump", `${message.payload.length} bytes`);
  }
  return decodeResult(message, "end of dump", DONE_SIZE);
}
