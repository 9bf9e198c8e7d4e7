/** The exchange of requests and answers over one netlink socket. */
import { errnoNumber, SystemError } from "../../ffi/errno.ts";
import { NetlinkDecodeError, NetlinkError } from "./error.ts";
import {
  type Acknowledgement,
  decodeAcknowledgement,
  decodeDone,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_MIN_TYPE,
  NLMSG_OVERRUN,
  parseMessages,
} from "./message.ts";
import { encodeRequests, type NetlinkRequest } from "./request.ts";
import type { NetlinkSocket } from "./socket.ts";

/** Requests in one send: should all be refused, the refusals must fit into the receive buffer. */
export const BATCH_MESSAGES_MAX = 64;
/** How often a request that met EBUSY, lost answers or a changing table is tried. */
export const ATTEMPTS_MAX = 6;
/** Messages in one dump; a full Internet routing table has a fourth of them. */
const DUMP_MESSAGES_MAX = 1 << 22;
/** Datagrams between two that belong to the exchange; more of them is no answer. */
const STALE_DATAGRAMS_MAX = 4096;
const PAUSE_FIRST_MS = 1;
/** Messages of one transaction: their acknowledgements must fit, as those of a batch must. */
const TRANSACTION_MESSAGES_MAX = 1024;

/** What stands for an answer that never came. */
const ANSWERS_LOST: Acknowledgement = {
  errno: errnoNumber("ENOBUFS"),
  text: "answers were lost",
  offset: null,
};

/** What came of one request of a batch. */
export interface BatchResult {
  readonly request: NetlinkRequest;
  /** null: done. */
  readonly error: NetlinkError | null;
}

/**
 * Requests that the kernel takes all at once or not at all (nfnetlink's batches,
 * `net/netfilter/nfnetlink.c`, `nfnetlink_rcv_batch`).
 */
export interface NetlinkTransaction {
  /** The message that opens it. Its errors are those of the whole. */
  readonly begin: NetlinkRequest;
  readonly requests: readonly NetlinkRequest[];
  /** The message that commits it. */
  readonly end: NetlinkRequest;
}

/** One request's way through an exchange. */
interface Pending {
  readonly request: NetlinkRequest;
  replies: NetlinkMessage[];
  /** null: not answered yet. */
  answer: Acknowledgement | null;
  /** It was sent and its answer lost: the kernel may have carried it out. */
  isUncertain: boolean;
}

const DONE: Acknowledgement = { errno: 0, text: "", offset: null };

function pendingOf(request: NetlinkRequest): Pending {
  return { request, replies: [], answer: null, isUncertain: false };
}

/** The answer to a request; what finds its own first attempt carried out is done. */
function answerTo({ request, isUncertain }: Pending, message: NetlinkMessage): Acknowledgement {
  const answer = decodeAcknowledgement(message);
  if (!isUncertain || answer.errno === 0) return answer;
  const isMade = (request.flags & NLM_F_EXCL) !== 0 && answer.errno === errnoNumber("EEXIST");
  const { absentErrno } = request;
  const isGone = absentErrno !== undefined && answer.errno === errnoNumber(absentErrno);
  return isMade || isGone ? DONE : answer;
}

/** What came of one try at a dump. */
interface DumpOutcome<T> {
  readonly entries: T[];
  /** False if the table changed meanwhile or messages were lost. */
  isWhole: boolean;
  /** The end of the dump; null before it, and if it could not be asked for. */
  answer: Acknowledgement | null;
  /** What the first message that could not be read threw. */
  failure: unknown;
}

/** Takes in one message of a dump. It does not throw: the rest must be read in any case. */
function takeDumped<T>(
  message: NetlinkMessage,
  outcome: DumpOutcome<T>,
  decode: (message: NetlinkMessage) => T | null,
): void {
  if ((message.flags & NLM_F_DUMP_INTR) !== 0) outcome.isWhole = false;
  try {
    if (message.type === NLMSG_DONE) {
      outcome.answer = decodeDone(message);
    } else if (message.type === NLMSG_ERROR) {
      outcome.answer = decodeAcknowledgement(message);
    } else if (message.type >= NLMSG_MIN_TYPE) {
      const entry = decode(message);
      if (entry !== null) outcome.entries.push(entry);
    }
  } catch (error) {
    outcome.failure ??= error;
    if (message.type < NLMSG_MIN_TYPE) outcome.answer = DONE;
  }
}

/** Blocks the thread: netlink is synchronous, and these pauses are a few milliseconds. */
function sleep(time_ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time_ms);
}

function failure(request: NetlinkRequest, answer: Acknowledgement): NetlinkError {
  return new NetlinkError(request.operation, request.object, answer.errno, answer.text);
}

function isCode(error: unknown, ...codes: readonly string[]): error is SystemError {
  return error instanceof SystemError && codes.includes(error.code);
}

/**
 * One conversation with the kernel. Not for use by two callers at once: every call has its answer
 * before it returns. Errors of the socket itself are `SystemError`s; after one, close it and open
 * another.
 */
export class NetlinkConnection {
  readonly #socket: NetlinkSocket;
  readonly #pause: (time_ms: number) => void;
  #sequence = 0;
  #portId = 0;

  /** Takes over the socket. `pause` waits before another attempt. */
  constructor(socket: NetlinkSocket, pause: (time_ms: number) => void = sleep) {
    this.#socket = socket;
    this.#pause = pause;
  }

  /** The kernel's number of our socket, which notifications name; 0 before the first answer. */
  get portId(): number {
    return this.#portId;
  }

  close(): void {
    this.#socket.close();
  }

  /**
   * Sends one request and returns the messages it was answered with, without the
   * acknowledgement. Throws `NetlinkError` if the kernel refuses.
   */
  request(request: NetlinkRequest): NetlinkMessage[] {
    const pending = pendingOf(request);
    this.#exchangeRepeatedly([pending]);
    if (pending.answer!.errno !== 0) throw failure(request, pending.answer!);
    return pending.replies;
  }

  /**
   * Sends any number of requests, many at a time, in their order. Every one has its own result; a
   * failed one does not keep the later ones from being tried.
   */
  batch(requests: readonly NetlinkRequest[]): BatchResult[] {
    const results: BatchResult[] = [];
    for (let start = 0; start < requests.length; start += BATCH_MESSAGES_MAX) {
      const part = requests.slice(start, start + BATCH_MESSAGES_MAX).map(pendingOf);
      this.#exchangeRepeatedly(part);
      for (const { request, answer } of part) {
        results.push({ request, error: answer!.errno === 0 ? null : failure(request, answer!) });
      }
    }
    return results;
  }

  /**
   * Sends requests that are done all or not at all, in one send. Throws `NetlinkError` if none was
   * done: the first refusal among them, or that of the whole; ENOBUFS means that answers were lost
   * and nobody knows whether it was done, so read before you try again.
   */
  transaction(transaction: NetlinkTransaction): void {
    if (transaction.requests.length > TRANSACTION_MESSAGES_MAX) {
      throw new RangeError(`a transaction of ${transaction.requests.length} requests`);
    }
    const again = [errnoNumber("EBUSY"), errnoNumber("EAGAIN")];
    for (let attempt = 1;; attempt++) {
      if (attempt > 1) this.#pause(PAUSE_FIRST_MS << attempt);
      const refused = this.#transact(transaction);
      if (refused === null) return;
      if (!again.includes(refused.errno) || attempt === ATTEMPTS_MAX) throw refused;
    }
  }

  /**
   * Asks for a whole table. `decode` turns each message into an entry, or null to leave it out;
   * the message is borrowed for the call. A dump that the kernel calls inconsistent
   * (`NLM_F_DUMP_INTR`) is asked for again. Throws `NetlinkError`: EINTR if the table kept
   * changing.
   */
  dump<T>(request: NetlinkRequest, decode: (message: NetlinkMessage) => T | null): T[] {
    const again = [errnoNumber("EINTR"), errnoNumber("EBUSY")];
    let last = errnoNumber("EINTR");
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      if (attempt > 1) this.#pause(PAUSE_FIRST_MS << attempt);
      const { entries, isWhole, answer, failure: broken } = this.#dumpOnce(request, decode);
      if (broken !== null) throw broken;
      if (answer === null) continue;
      if (answer.errno === 0 && isWhole) return entries;
      if (answer.errno !== 0 && !again.includes(answer.errno)) throw failure(request, answer);
      last = answer.errno || last;
    }
    const text = `no whole dump in ${ATTEMPTS_MAX} attempts`;
    throw new NetlinkError(request.operation, request.object, last, text);
  }

  /** Until every request has an answer that is not "try again", or the attempts are used up. */
  #exchangeRepeatedly(all: readonly Pending[]): void {
    const busy = errnoNumber("EBUSY");
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const open = all.filter(({ answer }) => answer === null || answer.errno === busy);
      if (open.length === 0) return;
      if (attempt > 1) this.#pause(PAUSE_FIRST_MS << attempt);
      for (const pending of open) {
        pending.answer = null;
        pending.replies = [];
      }
      this.#exchange(open);
    }
    for (const pending of all) {
      pending.answer ??= ANSWERS_LOST;
    }
  }

  /**
   * One send, and its answers. The kernel carries requests out in their order and tells of every
   * failure, so an acknowledgement is asked of the last alone: with it, all before it that did not
   * fail are done. Where answers were lost, `answer` stays null.
   */
  #exchange(open: readonly Pending[]): void {
    const first = this.#takeNumbers(open.length);
    const requests = open.map(({ request }) => request);
    if (!this.#send(requests, first, NLM_F_REQUEST, NLM_F_ACK)) return;
    const last = open[open.length - 1]!;
    this.#collect(open, first, () => last.answer !== null);
  }

  /** One send of a transaction, and its answers; null: it was done. */
  #transact({ begin, requests, end }: NetlinkTransaction): NetlinkError | null {
    const first = this.#takeNumbers(requests.length + 2);
    // Begin and end are refused, but not acknowledged (they can be since Linux 6.10).
    const inner = requests.map((request) => ({ ...request, flags: request.flags | NLM_F_ACK }));
    const all = [begin, ...inner, end];
    const pending = all.map(pendingOf);
    if (this.#send(all, first, NLM_F_REQUEST, 0)) {
      const [opening] = pending;
      this.#collect(pending, first, (waiting) => opening!.answer !== null || waiting === 2);
    }
    for (const { request, answer } of pending) {
      if (answer !== null && answer.errno !== 0) return failure(request, answer);
    }
    return pending.slice(1, -1).every(({ answer }) => answer !== null)
      ? null
      : failure(begin, ANSWERS_LOST);
  }

  /** The first of `count` sequence numbers that nobody had. */
  #takeNumbers(count: number): number {
    const first = this.#sequence + 1;
    this.#sequence = (this.#sequence + count) >>> 0;
    return first;
  }

  /**
   * Takes in answers until `isComplete` with so many unanswered, which then are done; or until some
   * were lost, and those without an answer stay so.
   */
  #collect(
    open: readonly Pending[],
    first: number,
    isComplete: (waitingCount: number) => boolean,
  ): void {
    let waitingCount = open.length;
    for (let stale = 0; !isComplete(waitingCount);) {
      const messages = this.#receive();
      if (messages === null) {
        for (const pending of open) pending.isUncertain ||= pending.answer === null;
        return;
      }
      let isOurs = false;
      for (const message of messages) {
        const pending = open[(message.sequence - first) >>> 0];
        // An answer to an earlier exchange that was given up.
        if (pending === undefined || pending.answer !== null) continue;
        isOurs = true;
        if (message.type === NLMSG_ERROR) {
          pending.answer = answerTo(pending, message);
          this.#portId = message.portId;
          waitingCount -= 1;
        } else if (message.type >= NLMSG_MIN_TYPE) {
          pending.replies.push(message);
        }
      }
      if (!isOurs) this.#checkStale(++stale);
    }
    for (const pending of open) pending.answer ??= DONE;
  }

  /** One send, and its answers to the end, even when they are of no use any more. */
  #dumpOnce<T>(
    request: NetlinkRequest,
    decode: (message: NetlinkMessage) => T | null,
  ): DumpOutcome<T> {
    const sequence = this.#sequence = (this.#sequence + 1) >>> 0;
    const outcome: DumpOutcome<T> = { entries: [], isWhole: true, answer: null, failure: null };
    if (!this.#send([request], sequence, NLM_F_REQUEST | NLM_F_DUMP, 0)) {
      return { ...outcome, isWhole: false };
    }
    let messageCount = 0;
    for (let stale = 0; outcome.answer === null;) {
      const messages = this.#receive();
      if (messages === null) outcome.isWhole = false;
      const ours = (messages ?? []).filter((message) => message.sequence === sequence);
      if (ours.length === 0) this.#checkStale(++stale);
      messageCount += ours.length;
      if (messageCount > DUMP_MESSAGES_MAX) {
        throw new NetlinkDecodeError("dump", `more than ${DUMP_MESSAGES_MAX} messages`);
      }
      for (const message of ours) takeDumped(message, outcome, decode);
    }
    return outcome;
  }

  #checkStale(count: number): void {
    if (count > STALE_DATAGRAMS_MAX) {
      throw new NetlinkDecodeError("answer", `none among ${count} datagrams`);
    }
  }

  /** Returns false if the kernel had no room for it. */
  #send(
    requests: readonly NetlinkRequest[],
    first: number,
    flags: number,
    lastFlags: number,
  ): boolean {
    try {
      this.#socket.send(encodeRequests(requests, first, flags, lastFlags));
      return true;
    } catch (error) {
      if (isCode(error, "ENOBUFS")) return false;
      throw error;
    }
  }

  /** The messages of the next datagram, or null if the kernel had to drop some. */
  #receive(): NetlinkMessage[] | null {
    for (let attempt = 1;; attempt++) {
      try {
        const messages = parseMessages(this.#socket.receive());
        return messages.some(({ type }) => type === NLMSG_OVERRUN) ? null : messages;
      } catch (error) {
        if (isCode(error, "ENOBUFS")) return null;
        // A signal came in between; the answer is still there.
        if (!isCode(error, "EINTR") || attempt >= ATTEMPTS_MAX) throw error;
      }
    }
  }
}
