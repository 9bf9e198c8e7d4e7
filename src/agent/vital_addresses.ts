/** The addresses beside its gateway that this host must go on reaching: resolvers and the store. */
import { readFileBounded } from "../files.ts";
import type { HostPort } from "../net/host_port.ts";
import { IpAddress } from "../net/ip.ts";
import type { VitalAddress } from "../kernel/surroundings.ts";

/** The second one holds what systemd-resolved asks; the first then names only a local address. */
const RESOLVER_FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/** A literal address, also one of an interface (`fe80::1%eth0`), as a list of one; else none. */
function vital(what: string, host: string): VitalAddress[] {
  const address = IpAddress.tryParse(host.replace(/^\[|\]$/g, ""));
  return address === null || address.isLinkLocal() ? [] : [{ what: `${what} ${address}`, address }];
}

function readResolvers(path: string): VitalAddress[] {
  let text = "";
  try {
    text = readFileBounded(path);
  } catch {
    // A host without this file asks no resolver, or this process may not read the file.
  }
  return Array.from(text.matchAll(/^\s*nameserver\s+(\S+)/gm), ([, host]) => host!)
    .flatMap((host) => vital("the resolver", host));
}

/** The host in `http://HOST:PORT`, `https://HOST:PORT` or `HOST:PORT`. */
function hostOfEndpoint(endpoint: string): string {
  return endpoint.trim().replace(/^[a-z]+:\/\//i, "").replace(/:\d+\/?$/, "");
}

/** Where the leases are kept. Names are not looked up: a resolver may be away. */
export interface StorePlaces {
  readonly registry: readonly HostPort[];
  readonly etcdEndpoints: readonly string[];
}

export function vitalAddresses({ registry, etcdEndpoints }: StorePlaces): VitalAddress[] {
  const all = [
    ...RESOLVER_FILES.flatMap(readResolvers),
    ...registry.flatMap(({ host }) => vital("the registry", host)),
    ...etcdEndpoints.flatMap((endpoint) => vital("etcd", hostOfEndpoint(endpoint))),
  ];
  return all.filter((one, i) => all.findIndex(({ what }) => what === one.what) === i);
}
