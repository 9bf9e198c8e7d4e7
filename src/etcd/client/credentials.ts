/** Who we are to etcd by certificate, the check of who answers there, and the sockets to it. */
import { isIP, type Socket } from "node:net";
import { checkServerIdentity } from "node:tls";
import { ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";
import type { Endpoint } from "./endpoint.ts";
import { systemAuthorities, type TlsMaterial } from "./tls_files.ts";

/**
 * The server name sent where the endpoint is a literal address: RFC 6066 section 3 wants a name,
 * and runtimes refuse an address. It decides nothing: the certificate is checked for the address.
 */
const ADDRESS_SERVER_NAME = "etcd";

type SecureConnector = ReturnType<ChannelCredentials["_createSecureConnector"]>;

/**
 * Credentials that know the sockets made with them and what their handshakes failed of: grpc-js
 * tells its caller only a text of it, lets go of a socket whose other end is silent without closing
 * it, and connects once more about a second after a failure, even where its channel was closed.
 */
export class WatchedCredentials extends ChannelCredentials {
  readonly #sockets = new Set<Socket>();
  #error: unknown = null;
  #isClosed = false;

  constructor(private readonly inner: ChannelCredentials) {
    super();
  }

  /** What the last handshake failed of. */
  get error(): unknown {
    return this.#error;
  }

  override _isSecure(): boolean {
    return this.inner._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    ...args: Parameters<ChannelCredentials["_createSecureConnector"]>
  ): SecureConnector {
    const connector = this.inner._createSecureConnector(...args);
    const keep = (error: unknown) => this.#error = error;
    return {
      connect: async (socket) => {
        this.#checkOpen();
        this.#sockets.add(socket);
        socket.once("close", () => this.#sockets.delete(socket));
        try {
          const result = await connector.connect(socket);
          // A server that does not like our certificate says so after the handshake (TLS 1.3).
          if (result.secure) result.socket.once("error", keep);
          return result;
        } catch (error) {
          keep(error);
          throw error;
        }
      },
      waitForReady: async () => {
        this.#checkOpen();
        await connector.waitForReady();
      },
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }

  /** grpc-js closes the socket for which this throws, or makes none. */
  #checkOpen(): void {
    if (this.#isClosed) throw new Error("the connection was closed");
  }

  /** Closes the sockets at once, whatever happens on them; there will be no others. */
  close(): void {
    this.#isClosed = true;
    for (const socket of [...this.#sockets]) socket.destroy();
  }
}

/** Credentials for one connection to this endpoint, and the channel options that belong to them. */
export function makeCredentials(
  endpoint: Endpoint,
  material: TlsMaterial,
): { credentials: WatchedCredentials; options: ChannelOptions } {
  if (!endpoint.isTls) {
    return {
      credentials: new WatchedCredentials(ChannelCredentials.createInsecure()),
      options: {},
    };
  }
  // The dot that may end a name is no part of it here (RFC 6066 section 3).
  const name = endpoint.host.replace(/\.$/, "");
  const ca = material.ca ?? systemAuthorities();
  const inner = ChannelCredentials.createSsl(ca, material.key, material.certificate, {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(name, certificate),
  });
  const serverName = isIP(name) === 0 ? name : ADDRESS_SERVER_NAME;
  return {
    credentials: new WatchedCredentials(inner),
    options: { "grpc.ssl_target_name_override": serverName },
  };
}
