/** The word to systemd that the service is up (sd_notify(3)). */
import { sendUnixDatagram } from "../../ffi/unix_datagram.ts";

/**
 * Sends a state such as `READY=1` if a service manager asked for it by NOTIFY_SOCKET. Throws
 * `SystemError` if its socket does not take it.
 */
export function notifyServiceManager(state: string): void {
  const path = process.env["NOTIFY_SOCKET"];
  if (path === undefined || !/^[/@]/.test(path)) return;
  sendUnixDatagram(path, state);
}
