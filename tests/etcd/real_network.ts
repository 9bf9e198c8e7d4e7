/** A network in a real etcd, for tests of the store. */
import process from "node:process";
import type { Etcd } from "../../src/etcd/client/kv.ts";
import { type EtcdOptions, openEtcd } from "../../src/etcd/client/open_etcd.ts";
import { EtcdStore, type EtcdStoreOptions } from "../../src/etcd/etcd_store.ts";
import type { EtcdLab } from "./lab.ts";

/** Stores on one lab, each test under a prefix of its own. */
export class RealNetwork {
  static #count = 0;
  readonly prefix = `/selvage-${process.pid}-${++RealNetwork.#count}/network`;
  readonly #stores: EtcdStore[] = [];

  constructor(readonly lab: EtcdLab) {}

  node(
    options: Partial<EtcdStoreOptions> = {},
    clientOptions: EtcdOptions = this.lab.clientOptions,
  ): { store: EtcdStore; etcd: Etcd } {
    const etcd = openEtcd(clientOptions);
    const store = new EtcdStore({ etcd, prefix: this.prefix, ...options });
    this.#stores.push(store);
    return { store, etcd };
  }

  store(options: Partial<EtcdStoreOptions> = {}): EtcdStore {
    return this.node(options).store;
  }

  async close(): Promise<void> {
    await Promise.all(this.#stores.map((store) => store.close()));
  }
}
