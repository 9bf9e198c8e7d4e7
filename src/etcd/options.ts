/** How etcd is reached, as flags say it, and flannel's defaults. Nothing heavy is loaded here. */

export interface EtcdOptions {
  /** `http://HOST:PORT`, `https://HOST:PORT` or `HOST:PORT`, at least one. */
  readonly endpoints: readonly string[];
  /** Without a slash at its end; keys are `<prefix>/config` and `<prefix>/subnets/…`. */
  readonly prefix: string;
  /** Files in PEM; null: none. Key and certificate are the client's own and go together. */
  readonly keyfile: string | null;
  readonly certfile: string | null;
  /** The authorities that sign the servers' certificates; null: the system's. */
  readonly cafile: string | null;
  /** Both or none. */
  readonly username: string | null;
  readonly password: string | null;
  /** Where the password comes from; it may have another one later. Null: from no file. */
  readonly passwordFile?: string | null;
}

/** flannel's. */
export const ETCD_DEFAULTS = {
  endpoints: "http://127.0.0.1:4001,http://127.0.0.1:2379",
  prefix: "/coreos.com/network",
} as const;
