/**
 * The prefixes of `prefix_table_test.ts`' last test, by number. The slot tells the prefix, so that
 * a look-up can be checked without knowing when the table changed. Keys of many zeros and ones:
 * half a key of one entry and half of another would be a third.
 */
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

/** Numbers below this are never removed. */
export const STEADY = 8;
/** Half of them of either length, with five bits of choice each. */
export const ADDRESS_COUNT = 64;

export interface PrefixFindings {
  readonly wrong: readonly string[];
  readonly foundCount: number;
  readonly missedCount: number;
}

type Five = [number, number, number, number, number];

/** /128 for even numbers, /64 for odd ones; no two overlap. */
export function prefixOf(number: number): IpPrefix {
  const [a, b, c, d, e] = [1, 2, 3, 4, 5].map((bit) => (number >> bit) & 1) as Five;
  const groups = number % 2 === 0
    ? [0xfd00, a, b, 0, 0, 0, c, d + 2 * e]
    : [0xfd01, a + 2 * b, c + 2 * d, e, 0, 0, 0, 0];
  const value = groups.reduce((sum, group) => sum << 16n | BigInt(group), 0n);
  return IpPrefix.of(IpAddress.of(6, value), number % 2 === 0 ? 128 : 64);
}

/** One of the slots that mean this number. */
export function slotOf(number: number, variant: number): number {
  return number + ADDRESS_COUNT * (variant % 512);
}

export function numberOf(slot: number): number {
  return slot % ADDRESS_COUNT;
}
