import { describeLeaseStore } from "../store/contract.ts";
import { TestNetwork } from "./harness.ts";

// deno-lint-ignore require-await
describeLeaseStore("the etcd store on an etcd in memory", async ({ random }) => {
  const network = new TestNetwork(1, null);
  const store = network.store({ random });
  return { store, registry: store, clock: network.clock, close: () => network.close() };
}, { endsAreUnknown: "etcd would have to be asked for each" });
