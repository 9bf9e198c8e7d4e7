/** The two look-ups of one family: by inner destination, and by outer source. */
import { DESTINATIONS6_OFFSET, SOURCES6_OFFSET } from "../../wasm/layout.ts";
import { type Family, type IpAddress, IpPrefix } from "../net/ip.ts";
import type { Epochs, WaitBudget } from "./epochs.ts";
import { Fib } from "./fib.ts";
import type { SharedMemory } from "./memory.ts";
import { PrefixTable } from "./prefix_table.ts";
import { SourceTable } from "./source_table.ts";

const IPV6_BITS = 128;

/** Bounds smaller than the layout's, for tests. */
export interface LookUpLimits {
  readonly blockCountMax?: number;
  readonly sourceCountMax?: number;
}

/** Prefixes of which no two overlap, and addresses which several peers may share, to slots. */
export interface LookUp {
  /** False, and nothing changed, if the table is full. */
  addSubnet(subnet: IpPrefix, slot: number, budget: WaitBudget): boolean;
  removeSubnet(subnet: IpPrefix, slot: number): void;
  /** False, and nothing changed, if the table is full. */
  addSource(address: IpAddress, slot: number, budget: WaitBudget): boolean;
  /** Takes back one `addSource`. */
  removeSource(address: IpAddress, slot: number): void;
}

function lookUp4(shared: SharedMemory, epochs: Epochs, limits: LookUpLimits): LookUp {
  const fib = new Fib(shared, epochs, limits.blockCountMax);
  const sources = new SourceTable(shared, epochs, limits.sourceCountMax);
  return {
    addSubnet: (subnet, slot, budget) =>
      fib.insert(subnet.address.toUint32(), subnet.length, slot, budget),
    removeSubnet: (subnet) => fib.remove(subnet.address.toUint32(), subnet.length),
    addSource: (address, slot, budget) => sources.add(address.toUint32(), slot, budget),
    removeSource: (address, slot) => sources.remove(address.toUint32(), slot),
  };
}

function lookUp6(shared: SharedMemory, epochs: Epochs): LookUp {
  const destinations = new PrefixTable(shared, DESTINATIONS6_OFFSET, epochs);
  const sources = new PrefixTable(shared, SOURCES6_OFFSET, epochs);
  const whole = (address: IpAddress) => IpPrefix.of(address, IPV6_BITS);
  return {
    addSubnet: (subnet, slot, budget) => destinations.add(subnet, slot, budget),
    removeSubnet: (subnet, slot) => destinations.remove(subnet, slot),
    addSource: (address, slot, budget) => sources.add(whole(address), slot, budget),
    removeSource: (address, slot) => sources.remove(whole(address), slot),
  };
}

/** The writing side of a family's look-ups, over empty tables. */
export function createLookUp(
  family: Family,
  shared: SharedMemory,
  epochs: Epochs,
  limits: LookUpLimits = {},
): LookUp {
  return family === 4 ? lookUp4(shared, epochs, limits) : lookUp6(shared, epochs);
}
