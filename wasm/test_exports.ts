/** Pure functions of the loops under names of their own, for tests. */
import * as fragment from "./fragment.ts";

export function fragmentOpen(
  headers: i32,
  headersSize: i32,
  payload: i32,
  payloadSize: i32,
  mtu: i32,
): i32 {
  return fragment.open(headers, headersSize, payload, payloadSize, mtu);
}

export function fragmentWriteHeaders(at: i32, index: i32): i32 {
  return fragment.writeHeaders(at, index);
}

export function fragmentPayloadAt(index: i32): i32 {
  return fragment.payloadAt(index);
}

export function fragmentPayloadSize(index: i32): i32 {
  return fragment.payloadSize(index);
}
