/** A server of gRPC on loopback that does as much of etcd as a test tells it to. */
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
} from "@grpc/grpc-js";
import {
  AuthenticateResponse,
  RangeRequest,
  RangeResponse,
  WatchRequest,
  WatchResponse,
} from "../../../src/etcd/client/generated/rpc.ts";
import type { EtcdOptions } from "../../../src/etcd/client/open_etcd.ts";

/** What the server does; it may change while it runs. */
export interface Behaviour {
  /** Whether a read of this key is answered. */
  answersRange(key: string): boolean;
  /** How many progress requests of a stream are answered. */
  progressAnswers: number;
  /** The token that a login brings. */
  login(): Promise<string>;
}

const asIs = (bytes: Buffer): Buffer => bytes;
const header = { revision: 9n };

function method(path: string, isStream = false) {
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

type Call = ServerUnaryCall<Buffer, Buffer>;
type Answer = (error: null, bytes: Buffer) => void;

export class FakeEtcdServer {
  readonly #server = new Server();
  readonly #peers = new Set<string>();
  readonly behaviour: Behaviour;
  rangeCount = 0;
  loginCount = 0;
  #port = 0;

  private constructor(behaviour: Partial<Behaviour>) {
    this.behaviour = {
      answersRange: () => true,
      progressAnswers: Infinity,
      login: () => Promise.resolve("token"),
      ...behaviour,
    };
  }

  static async start(behaviour: Partial<Behaviour> = {}): Promise<FakeEtcdServer> {
    const fake = new FakeEtcdServer(behaviour);
    const server = fake.#server;
    const names = { Range: method("/etcdserverpb.KV/Range") };
    server.addService(names, { Range: (call: Call, answer: Answer) => fake.#range(call, answer) });
    server.addService({ Watch: method("/etcdserverpb.Watch/Watch", true) }, {
      Watch: (call: ServerDuplexStream<Buffer, Buffer>) => fake.#watch(call),
    });
    server.addService({ Authenticate: method("/etcdserverpb.Auth/Authenticate") }, {
      Authenticate: async (_call: Call, answer: Answer) => {
        fake.loginCount++;
        const message = AuthenticateResponse.fromPartial({ token: await fake.behaviour.login() });
        answer(null, Buffer.from(AuthenticateResponse.encode(message).finish()));
      },
    });
    fake.#port = await new Promise<number>((resolve, reject) => {
      const credentials = ServerCredentials.createInsecure();
      server.bindAsync("127.0.0.1:0", credentials, (error, bound) => {
        return error === null ? resolve(bound) : reject(error);
      });
    });
    return fake;
  }

  #range(call: Call, answer: Answer): void {
    this.rangeCount++;
    this.#peers.add(call.getPeer());
    const key = Buffer.from(RangeRequest.decode(call.request).key).toString();
    if (!this.behaviour.answersRange(key)) return;
    const message = RangeResponse.fromPartial({ header });
    answer(null, Buffer.from(RangeResponse.encode(message).finish()));
  }

  #watch(call: ServerDuplexStream<Buffer, Buffer>): void {
    this.#peers.add(call.getPeer());
    let progressLeft = this.behaviour.progressAnswers;
    const send = (created: boolean) => {
      const message = WatchResponse.fromPartial({ header, created });
      call.write(Buffer.from(WatchResponse.encode(message).finish()));
    };
    call.on("data", (bytes: Buffer) => {
      const { requestUnion } = WatchRequest.decode(bytes);
      if (requestUnion?.$case === "createRequest") send(true);
      else if (progressLeft-- > 0) send(false);
    });
    call.on("error", () => {});
    call.on("end", () => call.end());
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** For a client of this server alone. */
  get clientOptions(): EtcdOptions {
    return {
      endpoints: [this.endpoint],
      ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
    };
  }

  /** How many connections calls and watches came by. */
  get connectionCount(): number {
    return this.#peers.size;
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}
