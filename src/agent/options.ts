/** What `selvage run` was asked to do: its flags, read and checked. */
import type { OuterLinkChoice } from "../kernel/outer_link.ts";
import type { EtcdOptions } from "../etcd/options.ts";
import type { HostPort } from "../net/host_port.ts";
import type { JoinString } from "../registry/join_string.ts";
import type { Level } from "../log.ts";
import type { Offload } from "../dataplane/offloads.ts";

export type { OuterLinkChoice, Pattern } from "../kernel/outer_link.ts";
export { type Offload, OFFLOADS } from "../dataplane/offloads.ts";
export { WORKER_COUNT_MAX } from "./worker_count.ts";

export interface RunOptions {
  readonly link: OuterLinkChoice;
  /** Whether a network may cut this host off from its gateway, store, resolvers or networks. */
  readonly allowsNetworkOverlap: boolean;
  readonly subnetFile: string;
  /** Before its end, when a lease is renewed. */
  readonly renewMargin_ms: number;
  /** Masquerade what leaves the network; written to subnet.env as FLANNEL_IPMASQ. */
  readonly ipMasq: boolean;
  /** Whether masqueraded source ports are random. */
  readonly isMasqFullyRandom: boolean;
  /**
   * Accept what is forwarded from and to the network, in our own tables and at the head of chains
   * of others that drop by default; "own": only in ours; false: nowhere.
   */
  readonly forwardRules: boolean | "own";
  /** Keep others out of the tunnel, and local users from sending to the peers' tunnels. */
  readonly isGuarded: boolean;
  /** Switch the forwarding of IP packets on if it is off; if false, only report that it is off. */
  readonly setsSysctls: boolean;
  /** The network configuration to put into the embedded registry, or null to use what it has. */
  readonly netConfigFile: string | null;
  /** ADDR:PORT of the registry's TLS listener; null: this host serves no others. */
  readonly registryListen: HostPort | null;
  /** Another host's registry; null: the registry is embedded here. */
  readonly join: JoinString | null;
  /** The cluster's etcd, in place of any registry; null: none. */
  readonly etcd: EtcdOptions | null;
  readonly stateDir: string;
  /** null: off. */
  readonly apiListen: HostPort | null;
  readonly apiSocket: string;
  /** Where `/healthz` and `/readyz` are served, and nothing else; null: nowhere. */
  readonly healthListen: HostPort | null;
  /** Drop what goes to addresses of the own subnet that nobody has. */
  readonly blackholeRoute: boolean;
  /** Give the lease back on a tidy end; otherwise it is kept for the next start. */
  readonly releaseOnExit: boolean;
  /** The kernel's offloads to use, as far as it has them; "auto": all. */
  readonly offloads: "auto" | readonly Offload[];
  /**
   * Userspace tunnels accept datagrams from any outer address: the inner source says which peer
   * sent them. For routers in between that translate addresses.
   */
  readonly trustsUnderlay: boolean;
  /** Userspace tunnels carry packets whose source lies outside of the network, unmasqueraded. */
  readonly allowsOutsideSources: boolean;
  /** Whether commands of the network's configuration may run here (backend `extension`). */
  readonly allowsCommands: boolean;
  /** Pairs of packet loops for each tunnel. */
  readonly workers: "auto" | number;
  /** What is logged: this level and all above it. */
  readonly logLevel: Level;
  /** What is odd about the flags, such as one without meaning, a sentence each; logged. */
  readonly notices: readonly string[];
}

export const DEFAULTS = {
  subnetFile: "/run/flannel/subnet.env",
  renewMargin_minutes: 60,
  stateDir: "/var/lib/selvage",
  apiListen: "127.0.0.1:8285",
  healthAddress: "0.0.0.0",
  apiSocket: "/run/selvage/api.sock",
  registryPort: 8286,
  logLevel: "info",
} as const;

/**
 * The variable by which whoever starts a daemon for a while only, such as the demo, has it end with
 * itself: its own process id.
 */
export const END_WITH_PARENT = "SELVAGE_END_WITH_PARENT";
