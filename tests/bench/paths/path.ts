/** What a path is to the benchmarks: a way for packets from one container to another. */
import type { HostNetwork } from "../../../src/demo/topology.ts";
import type { IpAddress } from "../../../src/net/ip.ts";
import type { Packages } from "../../packages.ts";
import { Ground, HOST_NUMBERS } from "../ground.ts";

/** A path that stands: traffic goes from the first container to the second. */
export interface RunningPath {
  readonly hosts: readonly HostNetwork[];
  /** The containers' addresses, in the order of the hosts. */
  readonly containers: readonly IpAddress[];
  /** Ends its daemons and lets go of its namespaces. */
  close(): Promise<void>;
}

export interface BenchPath {
  /** How the flags name it. */
  readonly id: string;
  readonly title: string;
  /** How it is set up, where that matters for the figures. */
  readonly note: string;
  /** The programs of others that carry the packets; empty where the kernel or Selvage does. */
  readonly packages: Packages;
  /** Measured only if `--only` names it; left out: always. */
  readonly isOnDemand?: boolean;
  /** Why this version of Selvage does not have it, or null. */
  obstacle(): string | null;
  /** Builds it. Rejects, with nothing left, if that cannot be done. */
  setUp(signal: AbortSignal): Promise<RunningPath>;
}

/** What a path on foreign ground says of itself. */
export interface ForeignPath {
  readonly id: string;
  readonly title: string;
  readonly note: string;
  readonly packages: Packages;
  /** MTU inside the path. */
  readonly mtu_bytes: number;
  /** Makes the path between the hosts, routes to the other's containers included. */
  build(ground: Ground): Promise<void> | void;
}

/** A path of the kernel's or of somebody else's daemon. */
export function foreignPath(path: ForeignPath): BenchPath {
  return {
    ...path,
    obstacle: () => null,
    setUp: async (signal) => {
      const ground = new Ground(signal);
      try {
        for (const host of HOST_NUMBERS) await ground.attach(host, path.mtu_bytes);
        await path.build(ground);
      } catch (error) {
        const logs = ground.logs();
        await ground.close();
        signal.throwIfAborted();
        const text = error instanceof Error ? error.message : String(error);
        throw new Error(logs === "" ? text : `${text} (${logs})`);
      }
      return {
        hosts: HOST_NUMBERS.map((host) => ground.network(host)),
        containers: ground.containers,
        close: () => ground.close(),
      };
    },
  };
}
