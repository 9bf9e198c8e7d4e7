/** Where a registry listens: names looked up, and tried before a start makes any file. */
import { lookup } from "node:dns/promises";
import { createServer } from "node:net";
import { errorText, SelvageError } from "../errors.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { IpAddress } from "../net/ip.ts";
import { portHolderText } from "../port_holder.ts";

/** The error of an address that cannot be listened on. */
export function registryListenError(where: HostPort, error: unknown): SelvageError {
  if (error instanceof SelvageError) return error;
  const place = `registry address ${formatHostPort(where)}`;
  const code = (error as { code?: unknown }).code;
  const hint = "Choose another with --registry-listen ADDR:PORT.";
  const options = { cause: error, hint };
  if (code === "EADDRINUSE") {
    const address = IpAddress.tryParse(where.host);
    const holder = address === null ? "" : portHolderText("tcp", address, where.port);
    return new SelvageError("conflict", `${place} is in use${holder}`, options);
  }
  // Deno says EINVAL.
  if (code === "EADDRNOTAVAIL" || code === "EINVAL") {
    return new SelvageError(
      "invalid_argument",
      `${place}: this host does not have this address`,
      options,
    );
  }
  if (code === "EACCES" || code === "EPERM") {
    return new SelvageError("permission", `${place}: permission denied`, options);
  }
  return new SelvageError("unavailable", `${place}: ${errorText(error)}`, options);
}

/** The literal address to listen on. Throws `unavailable` for a name that leads to none. */
export async function resolveListenAddress(where: HostPort): Promise<HostPort> {
  try {
    const { address } = await lookup(where.host);
    return { host: address, port: where.port };
  } catch (error) {
    const text = `registry address ${formatHostPort(where)}: the name cannot be resolved ` +
      `(${(error as { code?: string }).code ?? errorText(error)})`;
    throw new SelvageError("unavailable", text, {
      hint: "Check /etc/hosts and the resolver, or give the address.",
      cause: error,
    });
  }
}

/** Throws as `listenRegistry` would for this address, and leaves nothing open. */
export async function requireListenable(where: HostPort): Promise<void> {
  const { host, port } = await resolveListenAddress(where);
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, resolve);
    });
  } catch (error) {
    throw registryListenError(where, error);
  }
  await new Promise((resolve) => server.close(resolve));
}
