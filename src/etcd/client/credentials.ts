/** Certificates and keys for connections to etcd, and the check of who answers there. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { isIP, type Socket } from "node:net";
import { checkServerIdentity } from "node:tls";
import { ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";
import { errorText, SelvageError } from "../../errors.ts";
import { readFileBounded } from "../../files.ts";
import type { Endpoint } from "./endpoint.ts";

/** Files in PEM; null: none. A certificate goes with its key. */
export interface TlsFiles {
  /** Who may vouch for the servers; null: whom the system trusts. */
  readonly cafile: string | null;
  readonly certfile: string | null;
  readonly keyfile: string | null;
}

/** What was in the files. */
interface TlsMaterial {
  readonly ca: Buffer | null;
  readonly certificate: Buffer | null;
  readonly key: Buffer | null;
}

/** A bundle of all authorities of a system has some 250 KB. */
const FILE_SIZE_MAX_BYTES = 1024 * 1024;
/**
 * The server name sent where the endpoint is a literal address: RFC 6066 section 3 wants a name,
 * and runtimes refuse an address. It decides nothing: the certificate is checked for the address.
 */
const ADDRESS_SERVER_NAME = "etcd";

function readPem(path: string, what: string): string {
  try {
    return readFileBounded(path, FILE_SIZE_MAX_BYTES);
  } catch (error) {
    const text = `etcd ${what}: ${errorText(error)}`;
    throw new SelvageError("invalid_argument", text, { cause: error });
  }
}

/** Throws if there is no certificate in it, or one that cannot be read. */
function checkCertificates(pem: string, path: string, what: string): X509Certificate {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g);
  if (blocks === null) {
    throw new SelvageError("invalid_argument", `etcd ${what}: ${path} holds no PEM certificate`);
  }
  try {
    return blocks.map((block) => new X509Certificate(block))[0]!;
  } catch (error) {
    const text = `etcd ${what}: ${path} is damaged: ${errorText(error)}`;
    throw new SelvageError("invalid_argument", text, { cause: error });
  }
}

function checkPair(certificate: X509Certificate, keyPem: string, files: TlsFiles): void {
  let fits: boolean;
  try {
    fits = certificate.checkPrivateKey(createPrivateKey(keyPem));
  } catch (error) {
    const text = `etcd key: ${files.keyfile} is no private key: ${errorText(error)}`;
    throw new SelvageError("invalid_argument", text, { cause: error });
  }
  if (fits) return;
  const text = `etcd key: ${files.keyfile} is not the key of ${files.certfile}`;
  throw new SelvageError("invalid_argument", text);
}

/**
 * Reads the files. Throws `invalid_argument` that names the one which is missing, unreadable, no
 * certificate, or no fitting key.
 */
export function readTlsFiles(files: TlsFiles): TlsMaterial {
  const { cafile, certfile, keyfile } = files;
  if ((certfile === null) !== (keyfile === null)) {
    const text = certfile === null
      ? `etcd key: ${keyfile} is given without its certificate`
      : `etcd certificate: ${certfile} is given without its key`;
    const hint = "Give both --etcd-certfile and --etcd-keyfile, or neither.";
    throw new SelvageError("invalid_argument", text, { hint });
  }
  const ca = cafile === null ? null : readPem(cafile, "CA");
  if (ca !== null) checkCertificates(ca, cafile!, "CA");
  if (certfile === null) return { ca: toBuffer(ca), certificate: null, key: null };
  const certificate = readPem(certfile, "certificate");
  const key = readPem(keyfile!, "key");
  checkPair(checkCertificates(certificate, certfile, "certificate"), key, files);
  return { ca: toBuffer(ca), certificate: toBuffer(certificate), key: toBuffer(key) };
}

function toBuffer(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text);
}

type SecureConnector = ReturnType<ChannelCredentials["_createSecureConnector"]>;

/**
 * Credentials that know the sockets made with them and what their handshakes failed of: grpc-js
 * tells its caller only a text of it, and lets go of a socket whose other end is silent without
 * closing it.
 */
export class WatchedCredentials extends ChannelCredentials {
  readonly #sockets = new Set<Socket>();
  #error: unknown = null;

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
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }

  /** Closes the sockets at once, whatever happens on them. */
  destroySockets(): void {
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
  const isAddress = isIP(endpoint.host) !== 0;
  const inner = ChannelCredentials.createSsl(material.ca, material.key, material.certificate, {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(endpoint.host, certificate),
  });
  return {
    credentials: new WatchedCredentials(inner),
    options: isAddress ? { "grpc.ssl_target_name_override": ADDRESS_SERVER_NAME } : {},
  };
}
