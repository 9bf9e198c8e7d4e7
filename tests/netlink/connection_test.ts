import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemError } from "../../ffi/errno.ts";
import {
  ATTEMPTS_MAX,
  BATCH_MESSAGES_MAX,
  NetlinkConnection,
} from "../../src/netlink/connection.ts";
import { hasErrno, NetlinkDecodeError, NetlinkError } from "../../src/netlink/error.ts";
import {
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLM_F_EXCL,
  NLM_F_MULTI,
} from "../../src/netlink/message.ts";
import type { NetlinkRequest } from "../../src/netlink/request.ts";
import {
  acknowledge,
  datagram,
  done,
  type Kernel,
  reply,
  ScriptedSocket,
  systemError,
} from "./scripted_socket.ts";

const RTM_NEW = 24;
const [EEXIST, EBUSY, EINTR, ENOENT, ENOBUFS] = [17, 16, 4, 2, 105] as const;

function request(id: number, type = RTM_NEW): NetlinkRequest {
  return { type, flags: 0, payload: Uint8Array.of(id), operation: "add route", object: `to ${id}` };
}

/** A connection to a scripted kernel; its pauses are counted in place of waited for. */
function connect(kernel: Kernel) {
  const socket = new ScriptedSocket(kernel);
  const pauses_ms: number[] = [];
  const connection = new NetlinkConnection(socket, (time_ms) => pauses_ms.push(time_ms));
  return { connection, socket, pauses_ms };
}

function entry(message: NetlinkMessage, id: number, flags = 0): NetlinkMessage {
  return reply(message, RTM_NEW, Uint8Array.of(id), NLM_F_MULTI | flags);
}

const idOf = (message: NetlinkMessage): number => message.payload[0]!;

describe("one request", () => {
  test("is sent with REQUEST and ACK; the messages before the ack are its result", () => {
    const { connection, socket } = connect((message) => [
      datagram(reply(message, RTM_NEW, Uint8Array.of(9))),
      acknowledge(message),
    ]);
    assert.deepEqual(connection.request(request(1)).map(idOf), [9]);
    assert.equal(socket.messages[0]!.flags, 5);
  });

  test("a refusal names operation, object, errno and the kernel's own words", () => {
    const { connection } = connect((message) => [acknowledge(message, EEXIST, "So it is")]);
    assert.throws(() => connection.request(request(1)), (error) => {
      assert.ok(error instanceof NetlinkError);
      assert.equal(error.message, "add route to 1: EEXIST (file exists): So it is");
      assert.equal(error.code, "conflict");
      assert.ok(hasErrno(error, "ENOENT", "EEXIST") && !hasErrno(error, "ENOENT"));
      return true;
    });
  });

  test("EBUSY is tried again, with growing pauses, and in the end told", () => {
    let count = 0;
    const twice = connect((message) => [acknowledge(message, ++count <= 2 ? EBUSY : 0)]);
    twice.connection.request(request(1));
    assert.equal(twice.socket.sends.length, 3);
    assert.deepEqual(twice.pauses_ms, [4, 8]);
    const always = connect((message) => [acknowledge(message, EBUSY)]);
    assert.throws(() => always.connection.request(request(1)), /add route to 1: EBUSY/);
    assert.equal(always.socket.sends.length, ATTEMPTS_MAX);
  });

  test("lost answers (ENOBUFS) are asked for again; late ones to the first try are ignored", () => {
    let count = 0;
    const late: NetlinkMessage[] = [];
    const { connection, socket } = connect((message) => {
      late.push(message);
      return ++count === 1
        ? [systemError("ENOBUFS")]
        : [acknowledge(late[0]!, EEXIST), acknowledge(message)];
    });
    connection.request(request(1));
    assert.equal(socket.sends.length, 2);
    const lost = connect(() => [systemError("ENOBUFS")]);
    assert.throws(() => lost.connection.request(request(1)), /ENOBUFS .*answers were lost/);
    assert.equal(lost.socket.sends.length, ATTEMPTS_MAX);
  });

  test("what finds its own first attempt carried out is done", () => {
    const cases = [
      { flags: NLM_F_EXCL, errno: EEXIST, isDone: true },
      { flags: 0, errno: EEXIST, isDone: false },
      { flags: NLM_F_EXCL, errno: ENOENT, isDone: false },
      { flags: 0, absentErrno: "ENOENT", errno: ENOENT, isDone: true },
      { flags: 0, absentErrno: "ESRCH", errno: ENOENT, isDone: false },
    ];
    for (const { errno, isDone, ...rest } of cases) {
      for (const isLost of [true, false]) {
        let count = 0;
        const { connection } = connect((message) =>
          ++count > 1
            ? [acknowledge(message, errno)]
            : [isLost ? systemError("ENOBUFS") : acknowledge(message, EBUSY)]
        );
        const run = () => connection.request({ ...request(1), ...rest });
        if (isLost && isDone) run();
        else assert.throws(run, (error) => error instanceof NetlinkError && error.errno === errno);
      }
    }
  });

  test("what could not be sent was not carried out", () => {
    let count = 0;
    const socket = new ScriptedSocket((message) => [acknowledge(message, EEXIST)]);
    const send = socket.send.bind(socket);
    socket.send = (bytes) => {
      if (++count === 1) throw systemError("ENOBUFS");
      send(bytes);
    };
    const connection = new NetlinkConnection(socket, () => {});
    const run = () => connection.request({ ...request(1), flags: NLM_F_EXCL });
    assert.throws(run, (error) => hasErrno(error, "EEXIST"));
    assert.equal(count, 2);
  });

  test("a signal in between is no failure; silence is one", () => {
    const { connection } = connect((message) => [systemError("EINTR"), acknowledge(message)]);
    connection.request(request(1));
    const silent = connect(() => []);
    assert.throws(() => silent.connection.request(request(1)), SystemError);
    assert.equal(silent.socket.sends.length, 1);
  });

  test("bytes that are no message are an error, and the next request works", () => {
    let count = 0;
    const { connection } = connect((message) =>
      ++count === 1 ? [Uint8Array.of(1, 2, 3)] : [acknowledge(message)]
    );
    assert.throws(() => connection.request(request(1)), NetlinkDecodeError);
    connection.request(request(2));
  });

  test("endless messages to others are no answer", () => {
    const { connection } = connect((message) =>
      new Array(5000).fill(acknowledge({ ...message, sequence: 4711 }))
    );
    assert.throws(() => connection.request(request(1)), /none among/);
  });
});

describe("a batch", () => {
  test("is many messages in one send, bounded, each with its own result", () => {
    const { connection, socket } = connect((message) => [
      acknowledge(message, idOf(message) % 3 === 0 ? EEXIST : 0),
    ]);
    const requests = Array.from({ length: 150 }, (_, i) => request(i));
    const results = connection.batch(requests);
    assert.deepEqual(socket.sends.map((send) => send.length), [
      BATCH_MESSAGES_MAX,
      BATCH_MESSAGES_MAX,
      150 - 2 * BATCH_MESSAGES_MAX,
    ]);
    assert.deepEqual(results.map(({ request }) => request), requests);
    for (const [i, { error }] of results.entries()) {
      assert.equal(
        error?.message ?? null,
        i % 3 ? null : `add route to ${i}: EEXIST (file exists)`,
      );
    }
    assert.deepEqual(connection.batch([]), []);
  });

  test("only the last is asked to be acknowledged; the refused tell of themselves", () => {
    const { connection, socket } = connect((message) =>
      (message.flags & NLM_F_ACK) !== 0
        ? [acknowledge(message)]
        : idOf(message) === 2
        ? [acknowledge(message, EEXIST)]
        : []
    );
    const results = connection.batch([1, 2, 3, 4].map((id) => request(id)));
    assert.deepEqual(results.map(({ error }) => error?.errno ?? 0), [0, EEXIST, 0, 0]);
    assert.deepEqual(socket.messages.map(({ flags }) => flags), [1, 1, 1, 5]);
  });

  test("several answers may come in a datagram", () => {
    const seen: NetlinkMessage[] = [];
    const { connection } = connect((message) => {
      seen.push(message);
      if (seen.length < 3) return [];
      return [new Uint8Array([...acknowledge(seen[0]!, EEXIST), ...acknowledge(message, EBUSY)])];
    });
    const results = connection.batch([request(1), request(2), request(3)]);
    assert.deepEqual(results.map(({ error }) => error?.errno ?? 0), [EEXIST, 0, EBUSY]);
  });

  test("two answers to one request are not an answer to another", () => {
    let count = 0;
    const { connection, socket } = connect((message) => {
      const answer = acknowledge(message);
      return ++count === 1 ? [answer, answer] : [acknowledge(message, EEXIST)];
    });
    const results = connection.batch([request(1), request(2)]);
    assert.deepEqual(results.map(({ error }) => error?.errno ?? 0), [0, EEXIST]);
    assert.equal(socket.sends.length, 1);
  });

  test("only what was busy or unanswered is sent again", () => {
    let count = 0;
    const { connection, socket } = connect((message) => {
      count += 1;
      if (count === 1) return [acknowledge(message)];
      if (count === 2) return [acknowledge(message, EBUSY)];
      if (count === 3) return [systemError("ENOBUFS")];
      return [acknowledge(message)];
    });
    const results = connection.batch([request(1), request(2), request(3)]);
    assert.ok(results.every(({ error }) => error === null));
    assert.deepEqual(socket.sends.map((send) => send.map(idOf)), [[1, 2, 3], [2, 3]]);
  });
});

describe("a transaction", () => {
  const [BEGIN, END] = [100, 101] as const;
  const transaction = (count: number) => ({
    begin: { ...request(BEGIN, 0x10), operation: "replace", object: "all" },
    requests: Array.from({ length: count }, (_, i) => request(i)),
    end: request(END, 0x11),
  });
  /** Answers as nfnetlink does: once all is there, to what asked for it or failed. */
  function nfnetlink(answer: (id: number) => [errno: number, text: string], commit = () => 0) {
    const seen: NetlinkMessage[] = [];
    return connect((message) => {
      seen.push(message);
      if (idOf(message) !== END) return [];
      const all = seen.splice(0);
      const errno = commit();
      const acks = all.slice(1, -1).map((message) =>
        acknowledge(message, ...answer(idOf(message)))
      );
      return errno === 0 ? acks : [acknowledge(all[0]!, errno), ...acks];
    });
  }

  test("is one send with its edges, of which the inner ones alone ask for an answer", () => {
    const { connection, socket } = nfnetlink(() => [0, ""]);
    connection.transaction(transaction(100));
    assert.equal(socket.sends.length, 1);
    assert.deepEqual(socket.messages.map(idOf), [BEGIN, ...Array(100).keys(), END]);
    assert.deepEqual(socket.messages.map(({ flags }) => flags), [1, ...Array(100).fill(5), 1]);
    connection.transaction(transaction(0));
  });

  test("fails as a whole, with the kernel's words on the first that it refused", () => {
    const { connection, socket } = nfnetlink((id) => id < 2 ? [0, ""] : [EEXIST, `Not ${id}`]);
    assert.throws(
      () => connection.transaction(transaction(4)),
      { message: "add route to 2: EEXIST (file exists): Not 2" },
    );
    assert.equal(socket.sends.length, 1);
  });

  test("a refusal of the whole needs no other answer, and those that come disturb nothing", () => {
    const early = connect((message) => idOf(message) === BEGIN ? [acknowledge(message, 1)] : []);
    assert.throws(
      () => early.connection.transaction(transaction(3)),
      /^NetlinkError: replace all: EPERM/,
    );
    let count = 0;
    const late = nfnetlink(() => [0, ""], () => ++count === 1 ? EEXIST : 0);
    assert.throws(
      () => late.connection.transaction(transaction(3)),
      /^NetlinkError: replace all: EEXIST/,
    );
    late.connection.transaction(transaction(3));
  });

  test("a busy one is tried again, but not for ever", () => {
    let count = 0;
    const { connection, socket, pauses_ms } = nfnetlink(() => [++count < 3 ? EBUSY : 0, ""]);
    connection.transaction(transaction(1));
    assert.equal(socket.sends.length, 3);
    assert.equal(pauses_ms.length, 2);
    const always = nfnetlink(() => [EBUSY, ""]);
    assert.throws(() => always.connection.transaction(transaction(1)), /EBUSY/);
    assert.equal(always.socket.sends.length, ATTEMPTS_MAX);
  });

  test("lost answers are said to be lost, and it is not sent again", () => {
    const { connection, socket } = connect((message) =>
      idOf(message) === 0
        ? [acknowledge(message)]
        : idOf(message) === 1
        ? [systemError("ENOBUFS")]
        : []
    );
    assert.throws(() => connection.transaction(transaction(2)), (error) => {
      return hasErrno(error, "ENOBUFS") && /replace all.*answers were lost/.test(error.message);
    });
    assert.equal(socket.sends.length, 1);
  });

  test("one of too many messages is refused before it is sent", () => {
    const { connection, socket } = nfnetlink(() => [0, ""]);
    assert.throws(() => connection.transaction(transaction(2000)), RangeError);
    assert.equal(socket.sends.length, 0);
  });
});

describe("a dump", () => {
  const dump = (connection: NetlinkConnection) => connection.dump(request(0, 26), idOf);

  test("is many messages in many datagrams up to DONE; null leaves an entry out", () => {
    const { connection, socket } = connect((message) => [
      datagram(entry(message, 1), entry(message, 2)),
      datagram(entry(message, 3)),
      done(message),
    ]);
    assert.deepEqual(dump(connection), [1, 2, 3]);
    const odd = connection.dump(request(0), (m) => idOf(m) % 2 ? idOf(m) : null);
    assert.deepEqual(odd, [1, 3]);
    assert.equal(socket.messages[0]!.flags, 0x301);
  });

  test("one that was interrupted is read to its end and asked for again", () => {
    for (const where of ["entry", "done"]) {
      let count = 0;
      const { connection, socket } = connect((message) => {
        const flag = ++count === 1 ? NLM_F_DUMP_INTR : 0;
        return [
          datagram(entry(message, count), entry(message, 9, where === "entry" ? flag : 0)),
          done(message, 0, where === "done" ? flag : 0),
        ];
      });
      assert.deepEqual(dump(connection), [2, 9]);
      assert.equal(socket.sends.length, 2);
    }
  });

  test("one that is always interrupted is given up, by name", () => {
    const { connection, socket } = connect((message) => [done(message, 0, NLM_F_DUMP_INTR)]);
    assert.throws(() => dump(connection), (error) => hasErrno(error, "EINTR"));
    assert.equal(socket.sends.length, ATTEMPTS_MAX);
  });

  test("lost messages (ENOBUFS) make it start again, after its end", () => {
    let count = 0;
    const { connection } = connect((message) =>
      ++count === 1
        ? [datagram(entry(message, 1)), systemError("ENOBUFS"), done(message)]
        : [datagram(entry(message, 1), entry(message, 2)), done(message)]
    );
    assert.deepEqual(dump(connection), [1, 2]);
  });

  test("errors come as ERROR or inside DONE", () => {
    const refused = connect((message) => [acknowledge(message, 1, "No")]);
    assert.throws(() => dump(refused.connection), /add route to 0: EPERM .*: No/);
    const late = connect((message) => [datagram(entry(message, 1)), done(message, 95)]);
    assert.throws(() => dump(late.connection), /EOPNOTSUPP/);
    for (const errno of [EBUSY, EINTR]) {
      let count = 0;
      const again = connect((message) => [
        ++count === 1 ? acknowledge(message, errno) : done(message),
      ]);
      assert.deepEqual(dump(again.connection), []);
    }
    const full = connect((message) => [acknowledge(message, ENOBUFS)]);
    assert.throws(() => dump(full.connection), /ENOBUFS/);
  });

  test("an entry that cannot be read fails it, but not the next exchange", () => {
    const { connection } = connect((message) => [
      datagram(entry(message, 1)),
      datagram(entry(message, 2)),
      done(message),
    ]);
    const fail = () => {
      throw new NetlinkDecodeError("test", "unreadable");
    };
    assert.throws(() => connection.dump(request(0), fail), /unreadable/);
    assert.deepEqual(dump(connection), [1, 2]);
  });

  test("an end that cannot be read fails it", () => {
    const { connection } = connect((message) => [
      datagram(reply(message, 3, Uint8Array.of(0), NLM_F_MULTI)),
    ]);
    assert.throws(() => dump(connection), NetlinkDecodeError);
  });
});
