/**
 * A host whose VXLAN is the kernel's, set up as flannel's backend does it today: nothing is learnt,
 * and each peer has a permanent neighbour, a forwarding entry and an on-link route.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { resolve } from "node:path";
import { spawnInNetns } from "../../src/demo/child.ts";
import { type Lease, parseLeaseKey } from "../../src/lease/lease.ts";
import { bitsOf, type Family, type IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { ip, outerV6 } from "./dual_stack.ts";
import type { Lab } from "./lab.ts";

const LEASE_CHILD = resolve("tests/e2e/lease_child.ts");
const VNI = 1;
const PORT = 8472;
const DEVICES: Readonly<Record<Family, string>> = { 4: "flannel.1", 6: "flannel-v6.1" };
const MACS: Readonly<Record<Family, string>> = { 4: "ea:18:5c:b2:85:27", 6: "aa:f3:68:3c:a3:48" };
const MTUS_BYTES: Readonly<Record<Family, number>> = { 4: 1450, 6: 1430 };

/** What the child says: our lease's key, and the leases of all others, addresses as texts. */
interface Answer {
  readonly key: string;
  readonly others: readonly Lease[];
}

export class KernelVtep {
  readonly #lab: Lab;
  readonly #host: number;
  readonly #families: readonly Family[];

  private constructor(lab: Lab, host: number, families: readonly Family[]) {
    this.#lab = lab;
    this.#host = host;
    this.#families = families;
  }

  /**
   * Takes a lease in the lab's registry and sets the host up by it and by those of its peers.
   * Returns the lease's key.
   */
  static async join(lab: Lab, host: number, families: readonly Family[]): Promise<string> {
    const vtep = new KernelVtep(lab, host, families);
    const { key, others } = await vtep.#takeLease();
    for (const subnet of parseLeaseKey(key)) vtep.#addDevice(subnet);
    for (const other of others) vtep.#addPeer(other);
    return key;
  }

  #outerAddress(family: Family): IpAddress {
    return family === 4 ? this.#lab.network(this.#host).outerAddress : outerV6(this.#host);
  }

  #ip(family: Family, command: string): void {
    ip(this.#lab, this.#lab.network(this.#host).host, `-${family} ${command}`);
  }

  #addDevice({ family, address }: IpPrefix): void {
    const device = DEVICES[family];
    const vxlan = `type vxlan id ${VNI} local ${this.#outerAddress(family)} dev eth0`;
    const link = `link add ${device} address ${MACS[family]} mtu ${MTUS_BYTES[family]}`;
    this.#ip(family, `${link} ${vxlan} dstport ${PORT} nolearning`);
    const noDad = family === 6 ? " nodad" : "";
    this.#ip(family, `addr add ${address}/${bitsOf(family)} dev ${device}${noDad}`);
    this.#ip(family, `link set ${device} up`);
  }

  /** What flannel writes of this host into its lease. */
  #leaseValue(): string {
    const data = (family: Family) => ({ VNI, VtepMAC: MACS[family] });
    const hasV6 = this.#families.includes(6);
    return JSON.stringify({
      PublicIP: this.#outerAddress(4),
      PublicIPv6: hasV6 ? this.#outerAddress(6) : null,
      BackendType: "vxlan",
      BackendData: data(4),
      ...(hasV6 ? { BackendV6Data: data(6) } : {}),
    });
  }

  async #takeLease(): Promise<Answer> {
    const args = ["run", "-A", LEASE_CHILD, await this.#lab.joinFile(), this.#leaseValue()];
    const { host: netns } = this.#lab.network(this.#host);
    const child = spawnInNetns(netns, process.execPath, args, ["ignore", "pipe", "inherit"]);
    let text = "";
    child.stdout!.setEncoding("utf8").on("data", (part: string) => text += part);
    await once(child, "close");
    assert.notEqual(text, "", "the lease was not had");
    return JSON.parse(text) as Answer;
  }

  #addPeer(lease: Lease): void {
    for (const text of lease.subnets.map(String)) {
      const subnet = IpPrefix.parse(text);
      const { family, address } = subnet;
      const { VtepMAC: mac } = lease.backendData[family] as { VtepMAC: string };
      const outer = lease.publicAddresses.map(String)
        .find((one) => one.includes(":") === (family === 6));
      const device = DEVICES[family];
      this.#ip(family, `neigh add ${address} lladdr ${mac} dev ${device} nud permanent`);
      const { host: netns } = this.#lab.network(this.#host);
      ip(this.#lab, netns, `fdb add ${mac} dev ${device} dst ${outer} self permanent`, "bridge");
      this.#ip(family, `route add ${subnet} via ${address} dev ${device} onlink`);
    }
  }
}
