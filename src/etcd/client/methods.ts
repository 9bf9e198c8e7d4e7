/** The calls of etcd's API that we make. */
import {
  AuthDefinition,
  KVDefinition,
  LeaseDefinition,
  type MessageFns,
  WatchDefinition,
} from "./generated/rpc.ts";

type Codec<T> = Pick<MessageFns<T>, "encode" | "decode">;

/** One call: its path in HTTP/2, and the messages it sends and brings. */
export interface Method<Request, Answer> {
  readonly path: string;
  readonly request: Codec<Request>;
  readonly answer: Codec<Answer>;
}

function method<Request, Answer>(
  service: { readonly fullName: string },
  { name, requestType, responseType }: {
    readonly name: string;
    readonly requestType: Codec<Request>;
    readonly responseType: Codec<Answer>;
  },
): Method<Request, Answer> {
  return { path: `/${service.fullName}/${name}`, request: requestType, answer: responseType };
}

export const RANGE = method(KVDefinition, KVDefinition.methods.range);
export const TRANSACT = method(KVDefinition, KVDefinition.methods.txn);
export const WATCH = method(WatchDefinition, WatchDefinition.methods.watch);
export const GRANT_LEASE = method(LeaseDefinition, LeaseDefinition.methods.leaseGrant);
export const REVOKE_LEASE = method(LeaseDefinition, LeaseDefinition.methods.leaseRevoke);
export const FIND_LEASE = method(LeaseDefinition, LeaseDefinition.methods.leaseTimeToLive);
export const AUTHENTICATE = method(AuthDefinition, AuthDefinition.methods.authenticate);
