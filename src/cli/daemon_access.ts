/** Leases and configuration by the API of a running daemon. */
import type { ChangeLine } from "../api/views.ts";
import { parseJson } from "../net/checked.ts";
import { readLines } from "../net/line_reader.ts";
import type { NetworkAccess } from "./access.ts";
import { type ClientFlags, openClient, succeeded } from "./client.ts";

/** Asks the daemon that the flags name. Throws `UsageError` for a URL that will not do. */
export function daemonAccess(flags: ClientFlags): NetworkAccess {
  const { v1 } = openClient(flags);
  return {
    place: flags.api ?? flags.apiSocket,
    keepsText: false,
    async leases() {
      return await (await succeeded(v1.leases.$get())).json();
    },
    async reserve(subnets, publicAddresses, isForced) {
      const json = { subnets: [...subnets], publicAddresses: [...publicAddresses] };
      const query = { force: isForced ? "true" : "false" } as const;
      return await (await succeeded(v1.leases.$post({ json, query }))).json();
    },
    async revoke(key) {
      const param = { key: encodeURIComponent(key) };
      await succeeded(v1.leases[":key"].$delete({ param }));
    },
    async *watch(signal) {
      const response = await succeeded(v1.leases.watch.$get({}, { init: { signal } }));
      for await (const line of readLines(response.body!, { signal })) {
        yield JSON.parse(line) as ChangeLine;
      }
    },
    async config() {
      return await (await succeeded(v1.config.$get())).json();
    },
    async setConfig(text, where, isForced) {
      const json = parseJson(text, where) as Record<string, unknown>;
      await succeeded(v1.config.$put({ json, query: { force: isForced ? "true" : "false" } }));
      return true;
    },
    async judgeConfig(text, where) {
      const json = parseJson(text, where) as Record<string, unknown>;
      // Ignored keys and splits are refused by the command, which shows the changes first.
      await succeeded(v1.config.$put({ json, query: { force: "true", dryRun: "true" } }));
    },
    async close() {},
  };
}
