/** The files with certificates and keys for connections to etcd. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import process from "node:process";
import { errorText, SelvageError } from "../../errors.ts";
import { readFileBounded } from "../../files.ts";

/** Files in PEM; null: none. A certificate goes with its key. */
export interface TlsFiles {
  /** Who may vouch for the servers; null: `systemAuthorities`. */
  readonly cafile: string | null;
  readonly certfile: string | null;
  readonly keyfile: string | null;
}

/** What was in the files. */
export interface TlsMaterial {
  readonly ca: Buffer | null;
  readonly certificate: Buffer | null;
  readonly key: Buffer | null;
}

/** A bundle of all authorities of a system has some 250 KB. */
const FILE_SIZE_MAX_BYTES = 1024 * 1024;

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

/** As PKCS #8 says it, and as OpenSSL's older form does (RFC 1421 section 4.6.1.1). */
const ENCRYPTED = /^-----BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: *4, *ENCRYPTED/m;

function checkPair(certificate: X509Certificate, keyPem: string, files: TlsFiles): void {
  if (ENCRYPTED.test(keyPem)) {
    const text = `etcd key: ${files.keyfile} is locked by a passphrase`;
    const hint = `Give one without: openssl pkey -in ${files.keyfile} -out NEW_FILE`;
    throw new SelvageError("invalid_argument", text, { hint });
  }
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

/** Where Linux systems keep whom they trust, as Go looks for it (crypto/x509, root_linux.go). */
const SYSTEM_BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/**
 * The authorities that this system trusts, in PEM: those of the file that `SSL_CERT_FILE` names, or
 * of the first that is there. Null: there is none, and the runtime's own list has to do.
 */
export function systemAuthorities(): Buffer | null {
  const named = process.env["SSL_CERT_FILE"] ?? "";
  for (const path of named === "" ? SYSTEM_BUNDLES : [named]) {
    try {
      return toBuffer(readFileBounded(path, FILE_SIZE_MAX_BYTES));
    } catch {
      // Other systems have it elsewhere.
    }
  }
  return null;
}
