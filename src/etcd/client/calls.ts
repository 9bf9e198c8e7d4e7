/** From keys, compares and operations to etcd's messages, and back. */
import {
  type Compare as CompareMessage,
  Compare_CompareResult,
  Compare_CompareTarget,
  type Event,
  Event_Type,
  type KeyValue as KeyValueMessage,
  RangeRequest,
  type RequestOp,
  type ResponseOp,
  type TxnRequest,
} from "./generated/rpc.ts";
import type { Compare, KeyEvent, KeyValue, Operation } from "./kv.ts";

const encoder = new TextEncoder();
// A mark at the beginning is part of the text, not of its encoding.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function toBytes(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** The end of the range of all keys with the prefix: the first key after them. */
export function prefixEnd(prefix: string): Uint8Array<ArrayBuffer> {
  const end = toBytes(prefix);
  // A range that ends at a zero byte is without end.
  if (end.length === 0) return new Uint8Array([0]);
  // UTF-8 has no byte 0xff.
  end[end.length - 1]!++;
  return end;
}

/** The first key after this one. */
export function keyAfter(key: Uint8Array): Uint8Array<ArrayBuffer> {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}

/** The range of keys with the prefix; of all keys if it is empty, for there is no empty key. */
export function prefixRange(prefix: string): { key: Uint8Array; rangeEnd: Uint8Array } {
  return {
    key: prefix === "" ? new Uint8Array([0]) : toBytes(prefix),
    rangeEnd: prefixEnd(prefix),
  };
}

export function toKeyValue(message: KeyValueMessage): KeyValue {
  return {
    key: decoder.decode(message.key),
    value: decoder.decode(message.value),
    createRevision: message.createRevision,
    modRevision: message.modRevision,
    version: message.version,
    leaseId: message.lease,
  };
}

/** Null for an event without a key, which etcd does not send. */
export function toKeyEvent(event: Event): KeyEvent | null {
  if (event.kv === undefined) return null;
  const type = event.type === Event_Type.DELETE ? "delete" : "put";
  return { type, entry: toKeyValue(event.kv) };
}

function toCompare(compare: Compare): CompareMessage {
  const key = toBytes(compare.key);
  const result = Compare_CompareResult.EQUAL;
  switch (compare.target) {
    case "version": {
      const targetUnion = { $case: "version", version: compare.is } as const;
      return { key, result, target: Compare_CompareTarget.VERSION, targetUnion };
    }
    case "createRevision": {
      const targetUnion = { $case: "createRevision", createRevision: compare.is } as const;
      return { key, result, target: Compare_CompareTarget.CREATE, targetUnion };
    }
    case "modRevision": {
      const targetUnion = { $case: "modRevision", modRevision: compare.is } as const;
      return { key, result, target: Compare_CompareTarget.MOD, targetUnion };
    }
    case "lease": {
      const targetUnion = { $case: "lease", lease: compare.is } as const;
      return { key, result, target: Compare_CompareTarget.LEASE, targetUnion };
    }
    case "value": {
      const targetUnion = { $case: "value", value: toBytes(compare.is) } as const;
      return { key, result, target: Compare_CompareTarget.VALUE, targetUnion };
    }
  }
}

function toRequest(operation: Operation): RequestOp {
  if ("put" in operation) {
    const { put, value, leaseId } = operation;
    const message = { key: toBytes(put), value: toBytes(value), lease: leaseId };
    return { request: { $case: "requestPut", requestPut: message } };
  }
  if ("delete" in operation) {
    const message = { key: toBytes(operation.delete), rangeEnd: new Uint8Array() };
    return { request: { $case: "requestDeleteRange", requestDeleteRange: message } };
  }
  const message = "get" in operation
    ? { key: toBytes(operation.get) }
    : prefixRange(operation.list);
  const requestRange = RangeRequest.fromPartial(message);
  return { request: { $case: "requestRange", requestRange } };
}

/** One transaction as its message. */
export function toTxnRequest(
  compares: readonly Compare[],
  then: readonly Operation[],
  otherwise: readonly Operation[],
): TxnRequest {
  return {
    compare: compares.map(toCompare),
    success: then.map(toRequest),
    failure: otherwise.map(toRequest),
  };
}

/** What each operation found. */
export function foundBy(responses: readonly ResponseOp[]): KeyValue[][] {
  return responses.map(({ response }) =>
    response?.$case === "responseRange" ? response.responseRange.kvs.map(toKeyValue) : []
  );
}
