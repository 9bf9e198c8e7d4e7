/** Backend `alloc`: a lease and nothing else; whoever reads subnet.env sees to the packets. */
import { NO_KERNEL_STATE } from "../kernel/state.ts";
import type { Backend } from "./backend.ts";
import { publishedAddresses } from "./published_addresses.ts";

const ALLOC_TYPE = "alloc";

export const allocBackend: Backend = {
  type: ALLOC_TYPE,
  optionNames: [],
  carriesNothing: true,
  check: () => {},
  tunnels: () => [],
  mtu_bytes: (_config, link) => link.mtu_bytes,
  attributes: (config, link) => ({
    publicAddresses: publishedAddresses(config, link),
    backendType: ALLOC_TYPE,
    backendData: {},
  }),
  plan: () => ({ kernel: NO_KERNEL_STATE, served: [], forwarding: [], skipped: [] }),
};
