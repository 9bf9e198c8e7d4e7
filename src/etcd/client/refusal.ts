/**
 * Whether a connection was refused indeed: Bun says so of all that the network answers, such as
 * that there is no route.
 */
import { isIP } from "node:net";
import { tryTcpConnect } from "../../../ffi/tcp_connect.ts";
import { IpAddress } from "../../net/ip.ts";

/** As runtimes word it, with the address last. */
const REFUSED = /ECONNREFUSED (\S+):(\d+)/;
/** A refusal takes a round trip. */
const TRIAL_MS = 250;

/** What gRPC says of a failed connection, with the kernel's own word for why. */
export async function withTrueReason(details: string): Promise<string> {
  const [, host = "", port] = REFUSED.exec(details) ?? [];
  if (isIP(host) === 0 || host.includes("%")) return details;
  const code = await tryTcpConnect(IpAddress.parse(host).toBytes(), Number(port), TRIAL_MS);
  return code === null ? details : details.replace("ECONNREFUSED", code);
}
