/** The in-memory twin of the netlink socket: a function plays the kernel. */
import { errnoNumber, SystemError } from "../../ffi/errno.ts";
import {
  type NetlinkMessage,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  parseMessages,
  writeMessage,
} from "../../src/netlink/message.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { align } from "../../src/netlink/layout.ts";
import type { NetlinkSocket } from "../../src/netlink/socket.ts";

/** What `receive` brings: a datagram, or an error to throw. */
export type Incoming = Uint8Array | SystemError;

/** Plays the kernel: gets each message sent and says what it puts into the receive queue. */
export type Kernel = (message: NetlinkMessage) => readonly Incoming[];

/** An error as the real socket throws it. */
export function systemError(name: string): SystemError {
  return new SystemError("scripted socket", errnoNumber(name));
}

export class ScriptedSocket implements NetlinkSocket {
  /** Each `send`, as its messages. */
  readonly sends: NetlinkMessage[][] = [];
  readonly #queue: Incoming[] = [];
  isClosed = false;

  constructor(private readonly kernel: Kernel) {}

  /** All messages sent so far. */
  get messages(): NetlinkMessage[] {
    return this.sends.flat();
  }

  send(bytes: Uint8Array): void {
    const messages = parseMessages(bytes.slice());
    this.sends.push(messages);
    for (const message of messages) this.#queue.push(...this.kernel(message));
  }

  /** An empty queue is the real socket's 5 s of silence. */
  receive(): Uint8Array {
    const next = this.#queue.shift();
    if (next === undefined) throw systemError("EAGAIN");
    if (next instanceof SystemError) throw next;
    return next;
  }

  close(): void {
    this.isClosed = true;
  }
}

/** A datagram of these messages. */
export function datagram(...messages: readonly NetlinkMessage[]): Uint8Array {
  const bytes = new Uint8Array(
    messages.reduce((sum, { payload }) => sum + align(NLMSG_HDRLEN + payload.length), 0),
  );
  messages.reduce((offset, message) => writeMessage(bytes, offset, message), 0);
  return bytes;
}

/** One answering message. */
export function reply(
  request: NetlinkMessage,
  type: number,
  payload: Uint8Array,
  flags = 0,
): NetlinkMessage {
  return { type, flags, sequence: request.sequence, portId: 4711, payload };
}

/** A capped acknowledgement, with an extended one if there is a text. `errno` 0 is success. */
export function acknowledge(request: NetlinkMessage, errno = 0, text = ""): Uint8Array {
  const writer = new PayloadWriter().u32(-errno >>> 0)
    .u32(NLMSG_HDRLEN + request.payload.length).u16(request.type).u16(request.flags)
    .u32(request.sequence).u32(0);
  if (text !== "") writer.attributeText(1, text);
  const flags = NLM_F_CAPPED | (text === "" ? 0 : NLM_F_ACK_TLVS);
  return datagram(reply(request, NLMSG_ERROR, writer.finish(), flags));
}

/** The end of a dump. */
export function done(request: NetlinkMessage, errno = 0, flags = 0): Uint8Array {
  const payload = new PayloadWriter().u32(-errno >>> 0).finish();
  return datagram(reply(request, NLMSG_DONE, payload, NLM_F_MULTI | flags));
}
