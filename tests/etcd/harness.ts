/** Stores on an etcd in memory. */
import { afterEach } from "node:test";
import { EtcdStore, type EtcdStoreOptions } from "../../src/etcd/etcd_store.ts";
import { seededRandom } from "../lease/sample.ts";
import { FakeClock, TTL_MS } from "../store/harness.ts";
import { type FakeEtcd, FakeServer } from "./fake_etcd.ts";

export const PREFIX = "/coreos.com/network";

/** Long enough to be no busy loop, short enough for tests. */
export const QUICK_TIMES = { backoffFirst_ms: 2, backoffMax_ms: 10 };

/** One node: its store and the client under it. */
export interface TestNode {
  readonly store: EtcdStore;
  readonly etcd: FakeEtcd;
}

/** An etcd in memory with nodes on it, and a clock for both. */
export class TestNetwork {
  readonly clock = new FakeClock();
  readonly server = new FakeServer(() => this.clock.now_ms());
  readonly #nodes: TestNode[] = [];
  readonly random: () => number;

  constructor(seed = 1, config: string | null = '{"Network":"10.5.0.0/16"}') {
    this.random = seededRandom(seed);
    if (config !== null) this.setConfig(config);
  }

  setConfig(text: string): void {
    this.server.put(`${PREFIX}/config`, text);
  }

  /** `others` are servers of other clusters, whose endpoints are given to it too. */
  node(options: Partial<EtcdStoreOptions> = {}, others: readonly FakeServer[] = []): TestNode {
    const etcd = this.server.client(others);
    const store = new EtcdStore({
      etcd,
      prefix: PREFIX,
      clock: this.clock,
      ttl_ms: TTL_MS,
      random: this.random,
      times: QUICK_TIMES,
      ...options,
    });
    this.#nodes.push({ store, etcd });
    return { store, etcd };
  }

  store(options: Partial<EtcdStoreOptions> = {}): EtcdStore {
    return this.node(options).store;
  }

  /** The names of all leases there are. */
  leaseNames(): string[] {
    const start = `${PREFIX}/subnets/`;
    return this.server.under(start).map(({ key }) => key.slice(start.length));
  }

  putLease(name: string, value: string, leaseId = this.server.grant(TTL_MS / 1000)): void {
    this.server.put(`${PREFIX}/subnets/${name}`, value, leaseId);
  }

  async close(): Promise<void> {
    for (const { store } of this.#nodes) await store.close();
  }
}

/** Resolves once the condition holds, where no event tells; the runner's limit ends the wait. */
export async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** What starts the network of each test of the suite around the call, and closes it after it. */
export function networkOfEachTest(): (
  ...args: ConstructorParameters<typeof TestNetwork>
) => TestNetwork {
  let network: TestNetwork | null = null;
  afterEach(async () => {
    await network?.close();
    network = null;
  });
  return (...args) => network = new TestNetwork(...args);
}
