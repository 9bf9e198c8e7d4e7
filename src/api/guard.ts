/** Who may ask what over TCP. The Unix socket needs none of this: its file mode is its guard. */
import type { MiddlewareHandler } from "hono";
import { SelvageError } from "../errors.ts";
import { bearerToken } from "../net/bearer_token.ts";
import { IpAddress } from "../net/ip.ts";
import type { TokenAdmin, TokenScope } from "./control.ts";

export interface GuardOptions {
  readonly scheme: "http" | "https";
  /**
   * Whether a Host header names us; null: any name will do, as behind TLS and a token, where a
   * page that rebinds a name to our address has neither.
   */
  readonly isOurHost: ((authority: string) => boolean) | null;
  /** What needs a token: all that changes something, or reading as well. */
  readonly tokenFor: "changes" | "everything";
  readonly verify: (bearer: string) => TokenScope | null;
  /** As `TokenAdmin.onRevoked`. */
  readonly onRevoked: TokenAdmin["onRevoked"];
}

/** What the guard learns of a request. */
export interface GuardedEnvironment {
  /** The token that let the request pass; undefined: it needed none. */
  Variables: { bearer?: string };
}

/** The methods that change nothing. */
export const READING = new Set(["GET", "HEAD"]);

/**
 * Whether the authority (RFC 9110 section 7.2: host and optional port) is a loopback address or
 * `localhost`, with this port. Any other name may be a web page's that was made to resolve to
 * loopback (DNS rebinding).
 */
export function isLoopbackAuthority(authority: string, port: number): boolean {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/.exec(authority);
  if (match === null || Number(match[2] ?? 80) !== port) return false;
  const host = match[1]!;
  if (host.toLowerCase() === "localhost") return true;
  try {
    return IpAddress.parse(host.replace(/^\[|\]$/g, "")).isLoopback();
  } catch {
    return false;
  }
}

function checkOrigin(origin: string | undefined, scheme: string, host: string): void {
  if (origin === undefined || origin.toLowerCase() === `${scheme}://${host.toLowerCase()}`) return;
  throw new SelvageError("forbidden", `Origin ${JSON.stringify(origin)} is not this server's`, {
    hint: "Web pages of other sites may not use this API.",
  });
}

/** The API token of a request. Throws `unauthorized`, or `forbidden` for a join token. */
function requireApiToken(header: string | undefined, verify: GuardOptions["verify"]): string {
  const bearer = bearerToken(header);
  if (bearer === null) {
    throw new SelvageError("unauthorized", "this needs an API token", {
      hint: "Make one on the host itself with: selvage token create --scope api",
    });
  }
  const scope = verify(bearer);
  if (scope === null) {
    throw new SelvageError("unauthorized", "no such API token", {
      hint: "It may have been revoked; selvage token list shows those there are.",
    });
  }
  if (scope !== "api") {
    throw new SelvageError("forbidden", "a join token gives no right to use the API", {
      hint: "Make an API token with: selvage token create --scope api",
    });
  }
  return bearer;
}

/** Refuses what no token allows: who would make one for it would be refused all the same. */
function checkTcp(method: string, path: string): void {
  if (/^\/v1\/tokens(\/|$)/.test(path)) {
    throw new SelvageError("not_found", "tokens are only managed over the Unix socket", {
      hint: "Call selvage token on the host itself, without --api.",
    });
  }
  // With backend `extension` it has commands run on every host, which is the owner's alone.
  if (path === "/v1/config" && !READING.has(method)) {
    throw new SelvageError("forbidden", "the configuration is only set over the Unix socket", {
      hint: "Call selvage config set on the host itself, without --api.",
    });
  }
}

/**
 * Checks Host, Origin, what may be asked over TCP at all, and the token, in this order, before
 * anything is done or told.
 */
export function guard(options: GuardOptions): MiddlewareHandler<GuardedEnvironment> {
  return async (context, next) => {
    const host = context.req.header("host") ?? "";
    if (options.isOurHost !== null && !options.isOurHost(host)) {
      throw new SelvageError("forbidden", `Host ${JSON.stringify(host)} is not this server's`, {
        hint: "Use a loopback address or localhost with the port this server listens on.",
      });
    }
    checkOrigin(context.req.header("origin"), options.scheme, host);
    checkTcp(context.req.method, context.req.path);
    if (options.tokenFor === "everything" || !READING.has(context.req.method)) {
      const header = context.req.header("authorization");
      context.set("bearer", requireApiToken(header, options.verify));
    }
    await next();
  };
}
