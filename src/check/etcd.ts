/** What etcd says, held against this host: whether it has a subnet for it. Pure. */
import { publishedAddresses } from "../backend/published_addresses.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { allocate } from "../lease/allocator.ts";
import type { Lease } from "../lease/lease.ts";
import type { EtcdFacts } from "./facts.ts";
import type { EtcdAnswer } from "./options.ts";

function subnetProblem(
  leases: readonly Lease[],
  config: NetworkConfig,
  link: OuterLink,
): EtcdFacts["problem"] {
  const publicAddresses = publishedAddresses(config, link);
  const attributes = { publicAddresses, backendType: config.backend.type, backendData: {} };
  try {
    // Which one it would get does not matter here.
    allocate(config, leases, { attributes, previousSubnets: [] }, () => 0);
    return null;
  } catch (error) {
    if (!(error instanceof SelvageError)) throw error;
    return { why: error.message, hint: error.hint };
  }
}

/** `config` and `link` are null where they are not known: then no subnet is looked for. */
export function probeEtcd(
  { endpoints, problem, leases }: EtcdAnswer,
  config: NetworkConfig | null,
  link: OuterLink | null,
): EtcdFacts {
  const isKnown = problem === null && config !== null && link !== null;
  return { endpoints, problem: isKnown ? subnetProblem(leases, config, link) : problem };
}
