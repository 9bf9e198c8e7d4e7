/** etcd as a host's options name it: the client, and the store over it. */
import type { StoreState } from "../store/store.ts";
import type { Etcd } from "./client/kv.ts";
import { openEtcd } from "./client/open_etcd.ts";
import { EtcdStore } from "./etcd_store.ts";
import type { EtcdOptions } from "./options.ts";

/**
 * A client, which connects at its first call. Throws `invalid_argument` for an endpoint or a file
 * that will not do. The caller closes it.
 */
export function openEtcdClient(options: EtcdOptions): Etcd {
  return openEtcd(options);
}

/** The store over a client of its own; `onStateChange` as of `EtcdStore`. Throws likewise. */
export function openEtcdStore(
  options: EtcdOptions,
  { onStateChange }: { readonly onStateChange: (state: StoreState) => void },
): EtcdStore {
  return new EtcdStore({ etcd: openEtcdClient(options), prefix: options.prefix, onStateChange });
}
