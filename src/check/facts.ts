/** What `selvage check` saw of this host, as plain data: everything the judgement goes by. */
import type { Capability } from "../agent/preflight.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Family, IpPrefix } from "../net/ip.ts";
import type { ForwardChain } from "../netlink/nftables/forward_chain.ts";
import type { EtcdAnswer } from "./options.ts";
import type { PortHolder } from "../port_holder.ts";
import type { BackendName } from "./report.ts";

/**
 * What came of trying something: it works, as far as was `seen` where that is not all; it was
 * refused; or it could not be looked at.
 */
export type Trial =
  | { readonly state: "works"; readonly seen?: string }
  | { readonly state: "refused"; readonly why: string; readonly hint?: string }
  | { readonly state: "unseen"; readonly why: string };

/** A TUN device as far as could be seen; null: not looked at. */
export interface TunFacts {
  /** Opening `/dev/net/tun`. */
  readonly file: Trial;
  /** Making a device. */
  readonly device: Trial;
  readonly isMultiQueue: boolean | null;
  readonly offloads: readonly string[] | null;
}

export interface ForwardingFacts {
  readonly isOn: boolean;
  /** Whether this process could switch it on. */
  readonly isWritable: boolean;
}

/** A device of another's that stops what these backends would make. */
export type DeviceClash =
  & { readonly name: string; readonly backends: readonly BackendName[] }
  & (
    /** It has the name of ours, and is of this kind. */
    | { readonly type: "name"; readonly kind: string }
    /** It has the VNI and port of ours. */
    | { readonly type: "vni"; readonly vni: number; readonly port: number }
  );

/** A port that `selvage run` would bind. */
export interface PortFacts {
  readonly use: "udp" | "vxlan" | "api" | "registry";
  /** Such as `192.0.2.1:8285`. */
  readonly where: string;
  readonly port: number;
  readonly trial: Trial;
  /** Asked for by a flag or a configuration, not a default that may not be needed. */
  readonly isChosen: boolean;
  /** The holder of a UDP port in use (without a process if it is the kernel); null: not found. */
  readonly holder?: PortHolder | null;
  /**
   * The port is free at our own address and in use at another: the kernel's VXLAN needs it at all
   * addresses.
   */
  readonly isTakenElsewhere?: boolean;
}

export interface PlaceFacts {
  readonly name: "state directory" | "subnet file" | "API socket";
  readonly path: string;
  readonly trial: Trial;
}

export interface ClockFacts {
  readonly now_ms: number;
  /** null: the kernel does not say. */
  readonly isSynchronised: boolean | null;
  /** When the newest file of the state directory was written; null: there is none. */
  readonly newestState_ms: number | null;
}

/** A network configuration, and what its backend says of this host. */
export interface ConfigFacts {
  /** The file, or etcd's key. */
  readonly where: string;
  /** `Backend.Type` */
  readonly type: string;
  /** vxlan's `Datapath`, else null. */
  readonly datapath: string | null;
  readonly families: readonly Family[];
  /** One for each family, IPv4 first. */
  readonly networks: readonly IpPrefix[];
  /** What is odd about it and passed over, one sentence each. */
  readonly warnings: readonly string[];
  /** Largest inner packet; null where it is not known. */
  readonly mtu_bytes: number | null;
  readonly refusal: { readonly why: string; readonly hint: string } | null;
}

/** Its endpoints, and what would keep this host from a lease. */
export type EtcdFacts = Pick<EtcdAnswer, "endpoints" | "problem">;

export interface HostFacts {
  /** As uname(2) says, such as `6.1.0-18-amd64`. */
  readonly kernelRelease: string;
  /** Those of interest that are held. */
  readonly capabilities: readonly Capability[];
  readonly tun: TunFacts;
  /** null: no UDP socket could be opened. */
  readonly udpOffloads: readonly string[] | null;
  readonly vxlan: Trial;
  readonly ipip: Trial;
  readonly nftables: Trial;
  /** Chains of nftables that drop what is forwarded by default; null: not known. */
  readonly forwardDrops: readonly ForwardChain[] | null;
  /** Commands that let the overlay pass where the chain of the old iptables drops it. */
  readonly legacyDrops: readonly string[];
  readonly ioUring: Trial;
  /** null: the kernel has no such family, or it is switched off. */
  readonly forwarding: Readonly<Record<Family, ForwardingFacts | null>>;
  /** Which counts at the outer interface; null: not known. */
  readonly rpFilter: number | null;
  readonly gcThresh3: number | null;
  /** Or why there is none, and what to do. */
  readonly link: OuterLink | { readonly why: string; readonly hint: string };
  /** Whether a selvage answers at the API socket; null: it may not be asked. */
  readonly isRunning: boolean | null;
  /** Names of devices that are selvage's: another one runs here, or ran. */
  readonly ownDevices: readonly string[];
  /** Names of the kernel's VXLAN devices. */
  readonly vxlanDevices: readonly string[];
  readonly clashes: readonly DeviceClash[];
  readonly ports: readonly PortFacts[];
  readonly places: readonly PlaceFacts[];
  readonly clock: ClockFacts;
  /** null: none was given. */
  readonly config: ConfigFacts | null;
  /** null: it is not used. */
  readonly etcd: EtcdFacts | null;
}
