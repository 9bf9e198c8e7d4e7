/** What `selvage check` was asked to do: its flags, read and checked. */
import type { OuterLinkChoice } from "../agent/options.ts";
import type { Lease } from "../lease/lease.ts";
import type { HostPort } from "../net/host_port.ts";

/** What etcd said to whoever asked it as a host would. */
export interface EtcdAnswer {
  /** Its endpoints, as the flag takes them. */
  readonly endpoints: string;
  /** The key of the network's configuration. */
  readonly configKey: string;
  /** null: there is none, or it could not be read. */
  readonly configText: string | null;
  /** Every lease there is. */
  readonly leases: readonly Lease[];
  /** What would keep a host from its lease; null: nothing. */
  readonly problem: { readonly why: string; readonly hint: string } | null;
}

export interface CheckOptions {
  readonly link: OuterLinkChoice;
  /** As of `RunOptions`. */
  readonly allowsNetworkOverlap: boolean;
  /**
   * The network configuration to judge this host for; null: etcd's if that is asked, else every
   * backend with its defaults.
   */
  readonly netConfigFile: string | null;
  /** null: it is not used. */
  readonly etcd: EtcdAnswer | null;
  readonly stateDir: string;
  readonly subnetFile: string;
  readonly apiSocket: string;
  /** null: off. */
  readonly apiListen: HostPort | null;
  /** null: the default port, which only the registry's host needs. */
  readonly registryListen: HostPort | null;
}
