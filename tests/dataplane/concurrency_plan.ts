/**
 * The addresses of the concurrency test. A destination tells which endpoints are right for it, so
 * the loop's output can be checked without knowing when the table changed.
 *
 * Subnets: 10.0.N.0/24 for even N, 10.0.N.0/28 to 10.0.N.240/28 for odd N. The subnet's number is
 * its third byte and the upper half of its fourth, 0 there for a /24. Its endpoint is at
 * 172.X.Y.V: X and Y the number's bytes, V changing. The port follows from the address, so that
 * half an old and half a new endpoint is found out. Numbers divisible by 7 are never removed.
 */
import type { ForwardingEntry } from "../../src/backend/backend.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

/** The descriptor by which ICMP errors leave. */
export const ICMP_FD = 4;
const THIRD_BYTE_COUNT = 24;
const INNER_NET = 0x0a000000;
const ENDPOINT_NET = 0xac000000;

/** Number of the subnet that holds an inner address. */
function innerNumber(address: number): number {
  const third = (address >>> 8) & 0xff;
  return third % 2 === 0 ? third << 4 : (third << 4) | ((address >>> 4) & 0xf);
}

/** Number of the peer at an inner or an outer address. */
function numberOf(address: number): number {
  const isInner = address >>> 24 === INNER_NET >>> 24;
  return isInner ? innerNumber(address) : (address >>> 8) & 0xffff;
}

/** Whether the peer at an inner or outer address comes and goes. */
export function isVolatile(address: number): boolean {
  return numberOf(address) % 7 !== 0 || address === 0xdeadbeef;
}

export function isRightEndpoint(destination: number, address: number): boolean {
  return address >>> 24 === ENDPOINT_NET >>> 24 && numberOf(address) === innerNumber(destination);
}

export function endpointPort(address: number): number {
  return 1 + (Math.imul(address, 40503) >>> 16) % 65535;
}

export function allNumbers(): number[] {
  const numbers: number[] = [];
  for (let third = 2; third < THIRD_BYTE_COUNT; third++) {
    const parts = third % 2 === 0 ? 1 : 16;
    for (let part = 0; part < parts; part++) numbers.push((third << 4) | part);
  }
  return numbers;
}

/** An address within the subnet; `host` is below 16. */
export function destination(number: number, host: number): number {
  return INNER_NET + ((number >> 4) << 8) + ((number & 0xf) << 4) + host;
}

/** `variant` is below 256. */
export function endpointAddress(number: number, variant: number): number {
  return ENDPOINT_NET + (number << 8) + variant;
}

export function entryOf(number: number, variant: number): ForwardingEntry {
  const address = endpointAddress(number, variant);
  const length = (number >> 4) % 2 === 0 ? 24 : 28;
  const subnet = IpPrefix.of(IpAddress.of(4, BigInt(destination(number, 0))), length);
  return {
    key: `${subnet}`,
    subnet,
    address: IpAddress.of(4, BigInt(address)),
    port: endpointPort(address),
    vtepMac: null,
  };
}
