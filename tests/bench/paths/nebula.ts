/** Nebula. It always encrypts; its certificates hold which subnets a host may route. */
import { writeFileSync } from "node:fs";
import type { Ground } from "../ground.ts";
import { HOST_NUMBERS, otherHost, OUTER_MTU_BYTES, subnetOf, tunnelAddress } from "../ground.ts";
import { foreignPath } from "./path.ts";

const DEVICE = "nebula0";
const PORT = 4242;
/** Outer IPv4 and UDP headers, Nebula's header and the cipher's tag. */
const MTU_BYTES = OUTER_MTU_BYTES - 20 - 8 - 16 - 16;

function makeCertificates(ground: Ground): void {
  const [caCert, caKey] = [ground.file("ca.crt"), ground.file("ca.key")];
  const ca = ["-out-crt", caCert, "-out-key", caKey];
  ground.run(1, "nebula-cert", "ca", "-name", "bench", ...ca);
  for (const host of HOST_NUMBERS) {
    const out = ["-out-crt", ground.file(`${host}.crt`), "-out-key", ground.file(`${host}.key`)];
    const addresses = ["-ip", `${tunnelAddress(host)}/24`, "-subnets", subnetOf(host).toString()];
    const name = ["-name", `host${host}`];
    ground.run(
      1,
      "nebula-cert",
      "sign",
      "-ca-crt",
      caCert,
      "-ca-key",
      caKey,
      ...name,
      ...addresses,
      ...out,
    );
  }
}

export const nebula = foreignPath({
  id: "nebula",
  title: "Nebula",
  note: "Nebula, AES-GCM (it always encrypts)",
  packages: { nebula: "nebula", "nebula-cert": "nebula" },
  mtu_bytes: MTU_BYTES,
  build: async (ground) => {
    makeCertificates(ground);
    const anything = [{ port: "any", proto: "any", host: "any" }];
    for (const host of HOST_NUMBERS) {
      const other = otherHost(host);
      const route = {
        route: subnetOf(other).toString(),
        via: tunnelAddress(other),
        mtu: MTU_BYTES,
      };
      const config = {
        pki: {
          ca: ground.file("ca.crt"),
          cert: ground.file(`${host}.crt`),
          key: ground.file(`${host}.key`),
        },
        static_host_map: { [tunnelAddress(other)]: [`${ground.outerAddress(other)}:${PORT}`] },
        lighthouse: { am_lighthouse: false, hosts: [] },
        listen: { host: "0.0.0.0", port: PORT },
        tun: { dev: DEVICE, mtu: MTU_BYTES, unsafe_routes: [route] },
        logging: { level: "warning" },
        firewall: { outbound: anything, inbound: anything },
      };
      // JSON is YAML.
      writeFileSync(ground.file(`nebula${host}.yml`), JSON.stringify(config));
      ground.start(host, "nebula", "-config", ground.file(`nebula${host}.yml`));
    }
    for (const host of HOST_NUMBERS) await ground.device(host, DEVICE);
  },
});
