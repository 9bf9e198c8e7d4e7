/** What is to be done about the addresses of our devices. Pure. */
import type { InterfaceAddress } from "../netlink/address.ts";
import type { Link } from "../netlink/link.ts";
import type { KernelOperation } from "./operation.ts";
import type { DesiredAddress } from "./state.ts";

function addressKey(linkName: string, address: string, prefixLength: number): string {
  return `${linkName} ${address}/${prefixLength}`;
}

/**
 * Addresses of `cleaned` links, by index, that are not desired go, but for IPv6 link-local ones;
 * `usable` links, by the plan's names, get theirs. Deletions come first: an address with another
 * prefix length would be in the way.
 */
export function diffAddresses(
  desired: readonly DesiredAddress[],
  actual: readonly InterfaceAddress[],
  cleaned: ReadonlyMap<number, Link>,
  usable: ReadonlyMap<string, Link>,
): KernelOperation[] {
  const wanted = new Map(desired.map((entry) => [
    addressKey(entry.linkName, `${entry.address}`, entry.prefixLength),
    entry,
  ]));
  const operations: KernelOperation[] = [];
  const names = new Map([...usable].map(([name, link]) => [link.index, name]));
  for (const address of actual) {
    const name = names.get(address.linkIndex) ?? cleaned.get(address.linkIndex)?.name;
    if (name === undefined) continue;
    const key = addressKey(name, `${address.address}`, address.prefixLength);
    if (address.peer === null && wanted.delete(key)) continue;
    const link = cleaned.get(address.linkIndex);
    // The kernel gives every IPv6 link its fe80 address; it does no harm.
    if (link === undefined || (address.address.family === 6 && address.address.isLinkLocal())) {
      continue;
    }
    operations.push({ type: "delete_address", link, address });
  }
  for (const entry of wanted.values()) {
    const link = usable.get(entry.linkName);
    if (link) operations.push({ type: "add_address", link, desired: entry });
  }
  return operations;
}
