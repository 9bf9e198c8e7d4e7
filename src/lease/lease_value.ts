/**
 * A lease's attributes as flannel writes them into etcd. Every store of ours keeps and sends
 * them in this form, so that leases can move from one store to another as they are.
 */
import { z } from "zod";
import { SelvageError } from "../errors.ts";
import { checked, isObject, parseJson } from "../net/checked.ts";
import { type Family, IpAddress, ofFamily } from "../net/ip.ts";
import type { LeaseAttributes, NodeMark } from "./lease.ts";

/** A node publishes some hundred bytes; this is what a store will take. */
export const LEASE_VALUE_SIZE_MAX_BYTES = 16 * 1024;

/** The longest backend type; flannel's longest is "wireguard". */
const BACKEND_TYPE_LENGTH_MAX = 64;

/** The longest part of a node's mark. */
const MARK_LENGTH_MAX = 64;

/**
 * The shape of a value. Older writers leave out PublicIPv6, udp and alloc leave out the type. Node
 * and AwaitsHost are ours: flannel passes over members that it does not know.
 */
export const leaseValueSchema = z.object({
  PublicIP: z.string().nullish(),
  PublicIPv6: z.string().nullish(),
  BackendType: z.string().max(BACKEND_TYPE_LENGTH_MAX).nullish(),
  BackendData: z.unknown().optional(),
  BackendV6Data: z.unknown().optional(),
  Node: z.unknown().optional(),
  AwaitsHost: z.unknown().optional(),
});

/** A value after its shape was checked. */
export type LeaseValue = z.infer<typeof leaseValueSchema>;

/** As the schema, without a copy: for lists of thousands. */
export function isLeaseValue(value: unknown): value is LeaseValue {
  if (!isObject(value)) return false;
  const { PublicIP, PublicIPv6, BackendType } = value;
  const isText = (one: unknown) => one === undefined || one === null || typeof one === "string";
  return isText(PublicIP) && isText(PublicIPv6) && isText(BackendType) &&
    (typeof BackendType !== "string" || BackendType.length <= BACKEND_TYPE_LENGTH_MAX);
}

function address(text: string | null | undefined, family: Family, what: string): IpAddress[] {
  // Go writes an address that is not there as null, and older ones of flannel as 0.0.0.0.
  if (text === null || text === undefined || text === "") return [];
  const parsed = IpAddress.parse(text, what);
  if (parsed.family !== family) {
    throw new SelvageError("invalid_argument", `${what} "${text}": not an IPv${family} address`);
  }
  return parsed.isUnspecified() ? [] : [parsed];
}

/** What most leases have: one object for all of them. */
const NO_BACKEND_DATA: LeaseAttributes["backendData"] = Object.freeze({});

function readBackendData(value: LeaseValue): LeaseAttributes["backendData"] {
  const v4 = value.BackendData ?? undefined;
  const v6 = value.BackendV6Data ?? undefined;
  if (v4 === undefined && v6 === undefined) return NO_BACKEND_DATA;
  return { ...(v4 === undefined ? {} : { 4: v4 }), ...(v6 === undefined ? {} : { 6: v6 }) };
}

/** A node's mark; an invalid one is ignored, because only the check for rivals reads it. */
function readMark(value: unknown): NodeMark | null {
  if (!isObject(value)) return null;
  const { ID, Run } = value;
  const isPart = (one: unknown) => typeof one === "string" && one.length <= MARK_LENGTH_MAX;
  return isPart(ID) ? { id: ID as string, run: isPart(Run) ? Run as string : "" } : null;
}

/** The attributes in a value. Throws `invalid_argument`; `what` names the value in it. */
export function readLeaseValue(value: LeaseValue, what: string): LeaseAttributes {
  const publicAddresses = [
    ...address(value.PublicIP, 4, `${what}: PublicIP`),
    ...address(value.PublicIPv6, 6, `${what}: PublicIPv6`),
  ];
  if (publicAddresses.length === 0) {
    const given = Object.entries({ PublicIP: value.PublicIP, PublicIPv6: value.PublicIPv6 })
      .filter(([, text]) => text).map(([name, text]) => `${name} is ${text}`);
    const text = given.length === 0
      ? "neither PublicIP nor PublicIPv6"
      : `not an address of a host: ${given.join(", ")}`;
    throw new SelvageError("invalid_argument", `${what}: ${text}`);
  }
  const backendType = (value.BackendType || "udp").toLowerCase();
  const node = readMark(value.Node);
  const attributes = { publicAddresses, backendType, backendData: readBackendData(value) };
  if (node !== null) return { ...attributes, node };
  return value.AwaitsHost === true ? { ...attributes, awaitsHost: true } : attributes;
}

/** The attributes in a value's JSON text. Throws `invalid_argument`; `what` names it. */
export function parseLeaseValue(text: string, what: string): LeaseAttributes {
  return readLeaseValue(checked(leaseValueSchema, parseJson(text, what), what), what);
}

/**
 * The value of a lease's attributes. udp leaves out BackendType, as flannel does. So does alloc
 * there; here it is written, for without it the lease would read as one of udp.
 */
export function toLeaseValue(attributes: LeaseAttributes): LeaseValue {
  const { publicAddresses, backendType, backendData, node, awaitsHost } = attributes;
  return {
    PublicIP: ofFamily(publicAddresses, 4)?.toString() ?? null,
    PublicIPv6: ofFamily(publicAddresses, 6)?.toString() ?? null,
    ...(backendType === "udp" ? {} : { BackendType: backendType }),
    ...(backendData[4] === undefined ? {} : { BackendData: backendData[4] }),
    ...(backendData[6] === undefined ? {} : { BackendV6Data: backendData[6] }),
    ...(node === undefined ? {} : { Node: { ID: node.id, Run: node.run } }),
    ...(awaitsHost === true ? { AwaitsHost: true } : {}),
  };
}

/** The value as JSON text. Throws `too_large` if no store would take it. */
export function formatLeaseValue(attributes: LeaseAttributes): string {
  const text = JSON.stringify(toLeaseValue(attributes));
  if (text.length > LEASE_VALUE_SIZE_MAX_BYTES) {
    const limit = `more than ${LEASE_VALUE_SIZE_MAX_BYTES} bytes`;
    throw new SelvageError("too_large", `the lease's attributes take ${limit}`);
  }
  return text;
}
