/** What `selvage check` was asked to do: its flags, read and checked. */
import type { OuterLinkChoice } from "../agent/options.ts";
import type { HostPort } from "../net/host_port.ts";

export interface CheckOptions {
  readonly link: OuterLinkChoice;
  /** The network configuration to judge this host for; null: every backend with its defaults. */
  readonly netConfigFile: string | null;
  readonly stateDir: string;
  readonly subnetFile: string;
  readonly apiSocket: string;
  /** null: off. */
  readonly apiListen: HostPort | null;
  /** null: the default port, which only the registry's host needs. */
  readonly registryListen: HostPort | null;
}
