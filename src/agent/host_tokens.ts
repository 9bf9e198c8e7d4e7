/** The tokens of this host, and the join strings made of them where it has a registry. */
import type { CreatedToken, TokenAdmin, TokenRequest, TokenView } from "../api/control.ts";
import { hasCode, SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { formatHostPort, type HostPort, parseNamedHostPort } from "../net/host_port.ts";
import { IpAddress } from "../net/ip.ts";
import { formatJoinString } from "../registry/join_string.ts";
import type { RegistryServer } from "../registry/server.ts";
import type { TokenStore } from "../registry/tokens.ts";

/** A registry that others can join. */
export interface JoinableRegistry {
  readonly server: RegistryServer;
  /** As `--registry-listen` says it. */
  readonly listen: HostPort;
  /** The outer interface as it is now: its address may change. */
  readonly link: () => OuterLink;
}

/** The literal address; null for a name. */
function literal(host: string): IpAddress | null {
  try {
    return IpAddress.parse(host);
  } catch {
    return null;
  }
}

/** Where others reach the registry: if it listens everywhere, at the public addresses. */
function reachableAddresses({ server, listen, link }: JoinableRegistry): HostPort[] {
  const { port } = server;
  const address = literal(listen.host);
  if (address === null || !address.isUnspecified()) return [{ host: listen.host, port }];
  const { name, publicAddresses } = link();
  // A socket at :: takes both families.
  const usable = publicAddresses.filter(({ family }) => address.family === 6 || family === 4);
  if (usable.length > 0) return usable.map((one) => ({ host: `${one}`, port }));
  throw new SelvageError(
    "unsupported",
    `interface ${name} has no address that hosts could join at`,
    {
      hint: "Name an address: selvage token create --address HOST:PORT.",
    },
  );
}

export class HostTokens implements TokenAdmin {
  readonly #tokens: TokenStore;
  readonly #registry: JoinableRegistry | null;
  /** Why hosts cannot join here, and where they can; null: they can. */
  readonly note: string | null;
  readonly keepsRegistry: boolean;

  /**
   * `elsewhere` says where hosts join if not here, as a whole sentence. `keepsRegistry`: this host
   * keeps the registry, though it may not listen.
   */
  constructor(
    tokens: TokenStore,
    registry: JoinableRegistry | null,
    { elsewhere, keepsRegistry }: { readonly elsewhere: string; readonly keepsRegistry: boolean },
  ) {
    this.#tokens = tokens;
    this.#registry = registry;
    this.note = registry === null ? elsewhere : null;
    this.keepsRegistry = keepsRegistry;
  }

  // deno-lint-ignore require-await -- so that a refusal is a rejection
  async create(request: TokenRequest): Promise<CreatedToken> {
    const { scope, description } = request;
    if (scope === "api") {
      const { info, token } = this.#tokens.create(scope, description);
      return { token: info, secret: token };
    }
    if (this.#registry === null) {
      throw new SelvageError("unsupported", "this host serves no registry to join", {
        hint: this.note!,
      });
    }
    const given = request.addresses.map((text) => parseNamedHostPort(text, "address"));
    const all = given.length > 0 ? given : reachableAddresses(this.#registry);
    // The same one twice would only be tried twice.
    const addresses = [...new Map(all.map((one) => [formatHostPort(one), one])).values()];
    const { info, token } = this.#tokens.create(scope, description);
    const { fingerprint } = this.#registry.server;
    return { token: info, secret: formatJoinString({ addresses, token, fingerprint }) };
  }

  // deno-lint-ignore require-await -- so that a failure is a rejection
  async list(): Promise<TokenView[]> {
    return this.#tokens.list();
  }

  // deno-lint-ignore require-await -- so that a refusal is a rejection
  async revoke(id: string): Promise<void> {
    try {
      this.#tokens.revoke(id);
    } catch (error) {
      if (this.note === null || !hasCode(error, "not_found")) throw error;
      throw new SelvageError(error.code, error.message, { hint: this.note, cause: error });
    }
  }

  verify(bearer: string) {
    return this.#tokens.verify(bearer);
  }

  onRevoked(bearer: string, listener: () => void): () => void {
    const token = this.#tokens.identify(bearer);
    if (token === null) listener();
    return this.#tokens.onRevoke((id) => {
      if (id === token?.id) listener();
    });
  }
}
