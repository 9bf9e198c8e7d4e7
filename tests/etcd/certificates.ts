/** An authority of the tests' own, and certificates that it signs: right ones and wrong ones. */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 24 * 60 * 60 * 1000;

/** The paths of a certificate and its key. */
export interface CertificateFiles {
  readonly certfile: string;
  readonly keyfile: string;
}

export interface Subject {
  /** For its file and its common name, which is the user's name to etcd. */
  readonly name: string;
  readonly names?: readonly string[];
  readonly addresses?: readonly string[];
  readonly isExpired?: boolean;
}

async function makeKeys(): Promise<CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as CryptoKeyPair;
}

async function keyPem(keys: CryptoKeyPair): Promise<string> {
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`;
}

export class Authority {
  private constructor(
    private readonly directory: string,
    private readonly keys: CryptoKeyPair,
    private readonly certificate: x509.X509Certificate,
    readonly cafile: string,
  ) {}

  /** Makes one, with its files in this directory. */
  static async make(directory: string, name = "authority"): Promise<Authority> {
    x509.cryptoProvider.set(webcrypto as unknown as Crypto);
    const keys = await makeKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: `CN=${name}`,
      keys,
      signingAlgorithm: ALGORITHM,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + DAY_MS),
      extensions: [
        new x509.BasicConstraintsExtension(true, 1, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
      ],
    });
    const cafile = join(directory, `${name}.crt`);
    writeFileSync(cafile, `${certificate.toString("pem")}\n`);
    return new Authority(directory, keys, certificate, cafile);
  }

  /** Signs a certificate, good for servers and clients. */
  async issue(subject: Subject): Promise<CertificateFiles> {
    const keys = await makeKeys();
    const { names = [], addresses = [] } = subject;
    const end_ms = subject.isExpired === true ? Date.now() - DAY_MS / 24 : Date.now() + DAY_MS;
    const alternatives: x509.JsonGeneralName[] = [
      ...names.map((value) => ({ type: "dns" as const, value })),
      ...addresses.map((value) => ({ type: "ip" as const, value })),
    ];
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8))).toString("hex"),
      subject: `CN=${subject.name}`,
      issuer: this.certificate.subject,
      publicKey: keys.publicKey,
      signingKey: this.keys.privateKey,
      signingAlgorithm: ALGORITHM,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(end_ms),
      extensions: [
        ...(alternatives.length === 0
          ? []
          : [new x509.SubjectAlternativeNameExtension(alternatives)]),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ]),
      ],
    });
    const certfile = join(this.directory, `${subject.name}.crt`);
    const keyfile = join(this.directory, `${subject.name}.key`);
    writeFileSync(certfile, `${certificate.toString("pem")}\n`);
    writeFileSync(keyfile, await keyPem(keys), { mode: 0o600 });
    return { certfile, keyfile };
  }
}
