/**
 * The registry's certificate: self-signed, made at the first start. Nobody vouches for it; hosts
 * know it by its fingerprint, which the join string carries.
 */
import { createHash, createPrivateKey, webcrypto, X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { errorText, SelvageError } from "../errors.ts";
import { readFileBounded, writeFileAtomic } from "../files.ts";

/** The name in the certificate, whatever the registry's address is. */
export const REGISTRY_NAME = "registry.selvage";

const LIFETIME_YEARS = 20;

/**
 * Hosts without a battery clock start in 1970, this one perhaps among them. The validity begins
 * there and does not count from such a date; what hosts trust is the fingerprint.
 */
const NOT_BEFORE = new Date(0);
const CLOCK_EARLIEST = new Date("2026-01-01T00:00:00Z");

/** The certificate and its key, as their files have them. */
export interface RegistryCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** SHA-256 of the certificate in DER form, 64 lower-case hex digits. */
  readonly fingerprint: string;
}

/** SHA-256 of a certificate in DER form, 64 lower-case hex digits. */
export function fingerprintOf(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("hex");
}

async function makeCertificate(): Promise<{ certificatePem: string; privateKeyPem: string }> {
  // Needed once in the life of a registry, and large.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  const crypto = webcrypto as unknown as Crypto;
  x509.cryptoProvider.set(crypto);
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const notAfter = new Date(Math.max(Date.now(), CLOCK_EARLIEST.getTime()));
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + LIFETIME_YEARS);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${REGISTRY_NAME}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: NOT_BEFORE,
    notAfter,
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: REGISTRY_NAME }]),
      // It is its own authority: clients have it as their only one.
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign,
        true,
      ),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    ],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certificatePem: `${certificate.toString("pem")}\n`,
    privateKeyPem: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}

/** What certificate and key are called in errors, and what to do if they do not fit. */
export interface PairNames {
  readonly certificate: string;
  readonly key: string;
  readonly hint: string;
}

/** Throws `unavailable` that names the text which is no certificate or no fitting key. */
export function checkPair(
  { certificatePem, privateKeyPem }: Pick<RegistryCertificate, "certificatePem" | "privateKeyPem">,
  { certificate: certificateName, key: keyName, hint }: PairNames,
): RegistryCertificate {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(certificatePem);
  } catch (error) {
    const text = `${certificateName} is no certificate: ${errorText(error)}`;
    throw new SelvageError("unavailable", text, { hint, cause: error });
  }
  let fits: boolean;
  try {
    fits = certificate.checkPrivateKey(createPrivateKey(privateKeyPem));
  } catch (error) {
    const text = `${keyName} is no private key: ${errorText(error)}`;
    throw new SelvageError("unavailable", text, { hint, cause: error });
  }
  if (!fits) {
    const text = `${keyName} is not the key of ${certificateName}`;
    throw new SelvageError("unavailable", text, { hint });
  }
  return { certificatePem, privateKeyPem, fingerprint: fingerprintOf(certificate.raw) };
}

function loadPair(certificatePath: string, keyPath: string): RegistryCertificate {
  const certificatePem = readFileBounded(certificatePath);
  const privateKeyPem = readFileBounded(keyPath);
  return checkPair({ certificatePem, privateKeyPem }, {
    certificate: certificatePath,
    key: keyPath,
    hint: "Restore both files, or remove both: every host must then join again.",
  });
}

/** Where certificate and key are kept in the state directory. */
export function certificatePaths(stateDir: string): { certificate: string; key: string } {
  return { certificate: join(stateDir, "registry.crt"), key: join(stateDir, "registry.key") };
}

/** Writes both files. Throws as `writeFileAtomic`. */
export function writeCertificate(
  stateDir: string,
  pair: Pick<RegistryCertificate, "certificatePem" | "privateKeyPem">,
): void {
  const paths = certificatePaths(stateDir);
  writeFileAtomic(paths.key, pair.privateKeyPem, { mode: 0o600, directoryMode: 0o700 });
  writeFileAtomic(paths.certificate, pair.certificatePem, { mode: 0o644 });
}

/**
 * Certificate and key of the state directory; null: there are none. Throws an error that names the
 * file which is missing, unreadable or damaged.
 */
export function storedCertificate(stateDir: string): RegistryCertificate | null {
  const { certificate, key } = certificatePaths(stateDir);
  // One of them alone is an error to be named.
  if (!existsSync(certificate) && !existsSync(key)) return null;
  return loadPair(certificate, key);
}

/**
 * The registry's certificate and key from the state directory, made at the first call. Throws an
 * error that names the file which is missing, unreadable or damaged; it never replaces one, for
 * that would lock out every host that has joined.
 */
export async function ensureCertificate(stateDir: string): Promise<RegistryCertificate> {
  const stored = storedCertificate(stateDir);
  if (stored !== null) return stored;
  writeCertificate(stateDir, await makeCertificate());
  return storedCertificate(stateDir)!;
}
