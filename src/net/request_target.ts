/** The target of a request, where it names a server (absolute-form, RFC 9112 section 3.2.2). */
import { SelvageError } from "../errors.ts";

const ABSOLUTE_FORM = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i;

/**
 * Throws `forbidden` if the target names another server than the Host header. The RFC lets the
 * target decide; every check of ours reads the header, and clients must send the same in both.
 */
export function requireSameAuthority(target: string, host: string): void {
  const authority = ABSOLUTE_FORM.exec(target)?.[1];
  if (authority === undefined || authority.toLowerCase() === host.toLowerCase()) return;
  const named = JSON.stringify(authority);
  const text = `the request is for ${named}, but its Host header names another server`;
  throw new SelvageError("forbidden", text, {
    hint: "Send a path as the target, such as /v1/status, or the same name in both.",
  });
}
