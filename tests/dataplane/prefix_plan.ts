/**
 * The prefixes of `prefix_table_test.ts`' last test, by number. The slot tells the prefix, so that
 * a look-up can be checked without knowing when the table changed. Keys of many zeros and ones:
 * half a key of one entry and half of another would be a third.
 */
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

/** Numbers below this are never removed. */
export const STEADY = 32;
/** Half of them of either length: nine bits of choice each. */
export const ADDRESS_COUNT = 1024;

export interface PrefixFindings {
  readonly wrong: readonly string[];
  readonly foundCount: number;
  readonly missedCount: number;
}

/** /128 for even numbers, /64 for odd ones; no two overlap. */
export function prefixOf(number: number): IpPrefix {
  const bits = number >> 1;
  const isWhole = number % 2 === 0;
  let value = isWhole ? 0xfd00n : 0xfd01n;
  for (let group = 1; group < 8; group++) {
    // The bits of choice are in seven groups of a /128, and in the upper three alone of a /64.
    const choice = isWhole
      ? (bits >> group) & 1 | (group === 7 ? (bits & 1) << 1 | (bits >> 8 & 1) << 2 : 0)
      : group < 4
      ? (bits >> (group - 1) * 3) & 7
      : 0;
    value = value << 16n | BigInt(choice);
  }
  return IpPrefix.of(IpAddress.of(6, value), isWhole ? 128 : 64);
}

/** One of the slots that mean this number. */
export function slotOf(number: number, variant: number): number {
  return number + ADDRESS_COUNT * (variant % 32);
}

export function numberOf(slot: number): number {
  return slot % ADDRESS_COUNT;
}
