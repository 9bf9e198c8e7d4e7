/** What every command is given, and what the entry module brings. */
import type { RunOptions } from "../agent/options.ts";
import type { CheckOptions } from "../check/options.ts";
import type { CheckReport } from "../check/report.ts";
import type { CleanOptions, CleanReport } from "../clean/report.ts";
import type { Etcd } from "../etcd/client/kv.ts";
import type { EtcdOptions } from "../etcd/options.ts";
import type { CliIo } from "./io.ts";

/** What `selvage demo` was asked to do. */
export interface DemoOptions {
  readonly hosts: number;
  readonly backend: "udp" | "vxlan" | "vxlan-userspace" | "host-gw";
  /** Of backend vxlan: 3, 2 or 1. */
  readonly generation: number;
  /** Stay up after the measurements, until interrupted. */
  readonly keep: boolean;
  readonly json: boolean;
  /** Of each TCP transfer. */
  readonly size_bytes: number;
}

/** The heavy parts, brought by the entry module, which loads each only when it is called. */
export interface CliDeps {
  readonly version: string;
  /** Resolves to the exit code. */
  readonly run: (options: RunOptions) => Promise<number>;
  /** Resolves to the exit code. */
  readonly demo: (options: DemoOptions) => Promise<number>;
  readonly check: (options: CheckOptions) => Promise<CheckReport>;
  readonly clean: (options: CleanOptions) => Promise<CleanReport>;
  /** Throws `invalid_argument` for an endpoint or a file that will not do. */
  readonly openEtcd: (options: EtcdOptions) => Promise<Etcd>;
  /** The process's own, if left out. */
  readonly io?: CliIo;
}

export interface CommandContext {
  readonly io: CliIo;
  readonly deps: CliDeps;
  /** Sets the exit code of a command that ends without an error. */
  exitWith(code: number): void;
}
