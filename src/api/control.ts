/** What the HTTP API needs of the agent, and nothing more. */
import type { Status } from "../agent/status.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { Lease } from "../lease/lease.ts";
import type { LeaseStore } from "../store/store.ts";

/** What a token is good for: to join the registry, or to change things over the TCP API. */
export type TokenScope = "join" | "api";

/** What may be shown of a token; never its secret. */
export interface TokenView {
  readonly id: string;
  readonly scope: TokenScope;
  /** In ms since 1970. */
  readonly created_ms: number;
  readonly description: string;
}

export interface TokenRequest {
  readonly scope: TokenScope;
  readonly description: string;
  /**
   * HOST:PORT under which others reach this registry, for the join string, to be tried in this
   * order; empty: the registry's own. Means nothing for an `api` token.
   */
  readonly addresses: readonly string[];
}

export interface CreatedToken {
  readonly token: TokenView;
  /** The whole join string, or the bearer token. It cannot be shown again. */
  readonly secret: string;
}

/** The tokens of the registry on this host. Throws `unsupported` on a host that joined another. */
export interface TokenAdmin {
  /** Why hosts cannot join here, and where they can, as whole sentences; null: they can. */
  readonly note: string | null;
  /** Whether this host keeps the registry; else `note` says where the leases are kept. */
  readonly keepsRegistry: boolean;
  create(request: TokenRequest): Promise<CreatedToken>;
  list(): Promise<TokenView[]>;
  /** Throws `not_found` if there is no such token. */
  revoke(id: string): Promise<void>;
  /** The scope of a bearer token, in constant time; null if it is none of ours. Never throws. */
  verify(bearer: string): TokenScope | null;
  /**
   * Calls `listener` when this token is revoked, or at once if the token is not one of ours.
   * Returns a function that stops this.
   */
  onRevoked(bearer: string, listener: () => void): () => void;
}

export interface Readiness {
  readonly ready: boolean;
  /** Why it is not, one sentence each; empty when it is. */
  readonly reasons: readonly string[];
}

export interface AgentControl {
  status(): Status;
  /** As in the status, without the work for the rest of it. */
  lease(): Status["lease"];
  readiness(): Readiness;
  /** Throws `config_missing` while the store holds none. */
  config(): Promise<NetworkConfig>;
  /**
   * Makes the text the network's configuration; `isDryRun`: only checks it. Throws
   * `invalid_argument` or what the backend says if this host cannot obey it. Unless `isForced`,
   * throws too if keys would be ignored or running hosts be split. Throws `unsupported` on a host
   * that joined another's registry.
   */
  setConfig(
    text: string,
    how: { readonly isForced: boolean; readonly isDryRun: boolean },
  ): Promise<void>;
  /**
   * A backup of this host's registry with its tokens and its private key. Throws `unsupported` on a
   * host that keeps none.
   */
  backUpRegistry(): Promise<string>;
  /** All leases as this host knew them last, its own among them; null: it knows none yet. */
  knownLeases(): readonly Lease[] | null;
  /** Throws `unavailable` before it is open. */
  readonly store: LeaseStore;
  readonly tokens: TokenAdmin;
}
