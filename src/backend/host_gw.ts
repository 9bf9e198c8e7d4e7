/**
 * Backend `host-gw`: a route to each peer's subnet through the peer itself, without encapsulation.
 * All hosts must be on one link. Interoperates with flannel's backend of the same name.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import { type OuterLink, reachesDirectly } from "../kernel/outer_link.ts";
import { NO_KERNEL_STATE } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import type { Backend, PeerEntry, Plan, PlanInput } from "./backend.ts";
import { directRoute, familiesOf } from "./desired.ts";
import { planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";
import { publishedAddresses } from "./published_addresses.ts";

const HOST_GW_TYPE = "host-gw";

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): PeerEntry | string {
  const reach = reachPeer(peer, family, HOST_GW_TYPE, input);
  if (typeof reach === "string" || reachesDirectly(input.link, reach.address)) return reach;
  return `its address ${reach.address} is not on the link of ${input.link.name}: ` +
    "host-gw has no way through gateways";
}

export const hostGwBackend: Backend = {
  type: HOST_GW_TYPE,
  optionNames: [],
  check(config: NetworkConfig, link: OuterLink | null): void {
    if (link === null) return;
    for (const family of familiesOf(config)) {
      const address = ofFamily(link.addresses, family);
      const shown = ofFamily(link.publicAddresses, family);
      if (address !== undefined && shown?.equals(address)) continue;
      throw new SelvageError(
        "unsupported",
        `interface ${link.name}: host-gw needs an IPv${family} address of its own that is the ` +
          "public one",
        { hint: "Leave --public-ip out, or choose another interface or backend." },
      );
    }
  },
  tunnels: () => [],
  mtu_bytes: (_config, link) => link.mtu_bytes,
  attributes: (config, link) => ({
    publicAddresses: publishedAddresses(config, link),
    backendType: HOST_GW_TYPE,
    backendData: {},
  }),
  isDirect: () => true,
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planPeers(input, familiesOf(input.config), planPeer);
    const routes = entries.map((entry) => directRoute(entry, input.link.name));
    const kernel = { ...NO_KERNEL_STATE, routes };
    return { kernel, served: entries, forwarding: [], skipped };
  },
};
