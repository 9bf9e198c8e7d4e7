/** Who we are to etcd: a token, got by user and password, that goes with every call. */
import { Metadata } from "@grpc/grpc-js";
import { isObject, parseJson } from "../../net/checked.ts";
import type { Connection } from "./connection.ts";
import { AUTHENTICATE } from "./methods.ts";
import { Status, StatusError } from "./status.ts";

export interface User {
  readonly name: string;
  /** As it is now. */
  password(): string;
}

/** etcd forgets a simple token that was not used for 5 minutes (--auth-token-ttl). */
const UNUSED_MAX_MS = 4 * 60_000;
/** A token that says when it ends (JWT) is good for this part of its time. */
const LIFETIME_PART = 0.8;

/** What goes with a call. */
export interface Token {
  /** Null: none is needed. */
  readonly text: string | null;
  /** Whether it was got for this very call, or none is needed. */
  readonly isFresh: boolean;
}

interface KnownToken {
  /** Null: the server wants none. */
  readonly text: string | null;
  readonly until_ms: number;
  used_ms: number;
}

/**
 * How long a JSON web token (RFC 7519) that was just given is good for; null if it does not say, or
 * says that it has ended already: then this host's clock is wrong, and the server will tell.
 */
export function tokenLifetime_ms(token: string, now_ms: number): number | null {
  const [, payload, signature] = token.split(".");
  if (payload === undefined || signature === undefined) return null;
  try {
    const claims = parseJson(Buffer.from(payload, "base64url").toString("utf8"), "token");
    const end_s = isObject(claims) ? claims["exp"] : null;
    const lifetime_ms = typeof end_s === "number" ? end_s * 1000 - now_ms : 0;
    return lifetime_ms > 0 ? lifetime_ms : null;
  } catch {
    return null;
  }
}

/** Keeps the token, which is good at all members of a cluster. */
export class Authenticator {
  #token: KnownToken | null = null;

  /** @param user Null: calls go without a token. */
  constructor(private readonly user: User | null) {}

  get hasUser(): boolean {
    return this.user !== null;
  }

  /**
   * The token in use. If there is no good one, requests a token from this endpoint; `onCall` is
   * called for each request. Throws `StatusError` and `ConnectError`.
   */
  async token(
    connection: Connection,
    timeout_ms: number,
    signal: AbortSignal,
    onCall: () => void,
  ): Promise<Token> {
    if (this.user === null) return { text: null, isFresh: true };
    const now_ms = performance.now();
    const known = this.#token;
    if (known !== null && now_ms < known.until_ms && now_ms - known.used_ms < UNUSED_MAX_MS) {
      known.used_ms = now_ms;
      return { text: known.text, isFresh: false };
    }
    onCall();
    const text = await this.#authenticate(connection, this.user, timeout_ms, signal);
    const lifetime_ms = text === null ? null : tokenLifetime_ms(text, Date.now());
    const used_ms = performance.now();
    const until_ms = lifetime_ms === null ? Infinity : used_ms + lifetime_ms * LIFETIME_PART;
    this.#token = { text, until_ms, used_ms };
    return { text, isFresh: true };
  }

  async #authenticate(
    connection: Connection,
    { name, password }: User,
    timeout_ms: number,
    signal: AbortSignal,
  ): Promise<string | null> {
    const request = { name, password: password() };
    const metadata = new Metadata();
    try {
      return (await connection.unary(AUTHENTICATE, request, metadata, timeout_ms, signal)).token;
    } catch (error) {
      // A server without authentication serves everyone; flannel goes on there as well.
      const isOff = error instanceof StatusError && error.code === Status.FAILED_PRECONDITION;
      if (isOff && error.details.includes("not enabled")) return null;
      throw error;
    }
  }

  /** This token was refused: the next call gets another. */
  forget(text: string | null): void {
    if (this.#token?.text === text) this.#token = null;
  }
}
