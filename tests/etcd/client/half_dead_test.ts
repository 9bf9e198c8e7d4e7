/** Servers that hold a watch open and say nothing on it: old ones that are well, and dead ones. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
} from "@grpc/grpc-js";
import { hasCode } from "../../../src/errors.ts";
import {
  RangeResponse,
  WatchRequest,
  WatchResponse,
} from "../../../src/etcd/client/generated/rpc.ts";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";

interface Behaviour {
  answersRange: boolean;
  /** How many progress requests of a stream are answered. */
  progressAnswers: number;
}

const asIs = (bytes: Buffer): Buffer => bytes;

function method(path: string, isStream: boolean) {
  return {
    path,
    requestStream: isStream,
    responseStream: isStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

/** A server that behaves like this; what it is told may change while it runs. */
async function fakeServer(behaviour: Behaviour) {
  let rangeCount = 0;
  const server = new Server();
  server.addService({ Range: method("/etcdserverpb.KV/Range", false) }, {
    Range: (
      _call: ServerUnaryCall<Buffer, Buffer>,
      answer: (error: null, bytes: Buffer) => void,
    ) => {
      rangeCount++;
      if (!behaviour.answersRange) return;
      const message = RangeResponse.fromPartial({ header: { revision: 9n } });
      answer(null, Buffer.from(RangeResponse.encode(message).finish()));
    },
  });
  server.addService({ Watch: method("/etcdserverpb.Watch/Watch", true) }, {
    Watch: (call: ServerDuplexStream<Buffer, Buffer>) => {
      let progressLeft = behaviour.progressAnswers;
      const send = (created: boolean) => {
        const message = WatchResponse.fromPartial({ header: { revision: 9n }, created });
        call.write(Buffer.from(WatchResponse.encode(message).finish()));
      };
      call.on("data", (bytes: Buffer) => {
        const { requestUnion } = WatchRequest.decode(bytes);
        if (requestUnion?.$case === "createRequest") send(true);
        else if (progressLeft-- > 0) send(false);
      });
      call.on("error", () => {});
      call.on("end", () => call.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => {
      return error === null ? resolve(bound) : reject(error);
    });
  });
  const etcd = openEtcd({
    endpoints: [`http://127.0.0.1:${port}`],
    ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
    ...{ deadline_ms: 300, attempt_ms: 300, progress_ms: 20, silence_ms: 100 },
  });
  return {
    etcd,
    rangeCount: () => rangeCount,
    close: () => {
      etcd.close();
      server.forceShutdown();
    },
  };
}

test("a server without progress requests is asked otherwise, and its watch lives", async () => {
  const behaviour = { answersRange: true, progressAnswers: 0 };
  const fake = await fakeServer(behaviour);
  try {
    let signCount = 0;
    const watch = async () => {
      for await (const batch of fake.etcd.watch("/a", 1n, new AbortController().signal)) {
        assert.equal(batch.length, 0);
        // From the third on it is dead.
        if (++signCount === 3) behaviour.answersRange = false;
      }
    };
    await assert.rejects(watch(), (error) => hasCode(error, "unavailable"));
    assert.equal(signCount, 3);
    assert.equal(fake.rangeCount(), 4);
  } finally {
    fake.close();
  }
});

test("a stream that has answered and does so no more is dead, whatever calls say", async () => {
  const fake = await fakeServer({ answersRange: true, progressAnswers: 2 });
  try {
    let signCount = 0;
    const watch = async () => {
      for await (const _ of fake.etcd.watch("/a", 1n, new AbortController().signal)) signCount++;
    };
    await assert.rejects(watch(), /no sign of life for 0\.1 s/);
    assert.equal(signCount, 2);
    assert.equal(fake.rangeCount(), 0);
  } finally {
    fake.close();
  }
});
