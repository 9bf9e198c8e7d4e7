/** Meeting the registry: nothing is sent before its certificate is known to be the right one. */
import { timingSafeEqual } from "node:crypto";
import { connect, type TLSSocket } from "node:tls";
import { errorText, SelvageError } from "../errors.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { fingerprintOf, REGISTRY_NAME } from "./certificate.ts";

function toPem(der: Uint8Array): string {
  const lines = Buffer.from(der).toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

/** Why there is no connection. */
function reasonOf(error: unknown): string {
  const code = String((error as { code?: unknown }).code);
  const isName = code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "ENODATA";
  return isName ? `the name cannot be resolved (${code})` : errorText(error);
}

/** The certificate that the machine at the other end proved to have the key of, in DER form. */
function handshake(address: HostPort, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    // Any certificate passes the handshake, and is then compared with the fingerprint.
    const socket: TLSSocket = connect({
      host: address.host,
      port: address.port,
      servername: REGISTRY_NAME,
      rejectUnauthorized: false,
    });
    const finish = (act: () => void) => {
      signal.removeEventListener("abort", onAbort);
      socket.destroy();
      act();
    };
    const onAbort = () => finish(() => reject(signal.reason));
    signal.addEventListener("abort", onAbort, { once: true });
    const where = `registry ${formatHostPort(address)}`;
    socket.once("secureConnect", () => {
      const { raw } = socket.getPeerCertificate(true);
      const error = new SelvageError("unavailable", `${where} showed no certificate`);
      finish(() => raw === undefined ? reject(error) : resolve(new Uint8Array(raw)));
    });
    socket.on("error", (cause) => {
      finish(() =>
        reject(new SelvageError("unavailable", `${where}: ${reasonOf(cause)}`, { cause }))
      );
    });
    socket.once("close", () => {
      const text = `${where}: the connection was closed in the TLS handshake`;
      finish(() => reject(new SelvageError("unavailable", text)));
    });
  });
}

/**
 * The certificate of the registry at this address in PEM, once its SHA-256 has been compared with
 * the join string's. Throws `unauthorized` if it is another one, `unavailable` if there is no TLS
 * connection, the signal's reason when that is aborted.
 */
export async function fetchPinnedCertificate(
  address: HostPort,
  fingerprint: string,
  signal: AbortSignal,
): Promise<string> {
  const der = await handshake(address, signal);
  const shown = Buffer.from(fingerprintOf(der), "hex");
  const expected = Buffer.from(fingerprint, "hex");
  if (shown.length === expected.length && timingSafeEqual(shown, expected)) return toPem(der);
  const text = `registry ${formatHostPort(address)}: its certificate is not the join string's ` +
    `(SHA-256 ${shown.toString("hex").slice(0, 16)}…, expected ${fingerprint.slice(0, 16)}…)`;
  throw new SelvageError("unauthorized", text, {
    hint: "Another machine may be answering there. If the registry was set up anew, join with a " +
      "new join string: selvage token create.",
  });
}
