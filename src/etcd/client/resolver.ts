/**
 * Where gRPC connects to. Its own resolvers keep to themselves why a name does not resolve, and
 * nothing ends an attempt to connect that they have begun; so it has the addresses from us.
 */
import { type ChannelOptions, experimental, Metadata } from "@grpc/grpc-js";
import { errorText } from "../../errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { Status, UNRESOLVED } from "./status.ts";

/** What `node:net` is to connect to; the signal ends the attempt. */
export interface Address {
  readonly host: string;
  readonly port: number;
  readonly signal: AbortSignal;
}

/** Gives the addresses as they are now; what it throws is why there are none. */
export type FindAddresses = () => Promise<readonly Address[]>;

const SCHEME = "selvage";
const FIND_OPTION = "selvage.find_addresses";

class EndpointResolver implements experimental.Resolver {
  readonly #find: FindAddresses;
  /** The search that was begun; null: none. */
  #search: symbol | null = null;

  constructor(
    _target: experimental.GrpcUri,
    private readonly listener: experimental.ResolverListener,
    options: ChannelOptions,
  ) {
    this.#find = options[FIND_OPTION];
  }

  /**
   * Begins the one search. What it found holds while the channel lives: gRPC asks again after each
   * failure, and an answer makes it try again at once.
   */
  updateResolution(): void {
    if (this.#search !== null) return;
    const search = Symbol();
    this.#search = search;
    const tell = (result: Parameters<experimental.ResolverListener>[0]) => {
      if (this.#search === search) this.listener(result, {}, null, "");
    };
    this.#find().then(
      (found) => {
        const endpoints = found.map((address) => ({ addresses: [address] }));
        tell(experimental.statusOrFromValue(endpoints));
      },
      (error) => {
        const details = `${UNRESOLVED}: ${errorText(error)}`;
        const metadata = new Metadata();
        tell(experimental.statusOrFromError({ code: Status.UNAVAILABLE, details, metadata }));
      },
    );
  }

  /** Lets go of the search. A channel that nobody has used for long is begun anew later. */
  destroy(): void {
    this.#search = null;
  }

  /** The name that goes into requests, and by default into the TLS handshake. */
  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return path;
  }
}

experimental.registerResolver(SCHEME, EndpointResolver);

/** The target and the options of a channel that connects to what `find` gives. */
export function channelTarget(
  { host, port }: Endpoint,
  find: FindAddresses,
): { target: string; options: ChannelOptions } {
  const shownHost = host.includes(":") ? `[${host}]` : host;
  return { target: `${SCHEME}:///${shownHost}:${port}`, options: { [FIND_OPTION]: find } };
}
