/** fastd with its null method: authenticated handshake, packets neither encrypted nor signed. */
import { writeFileSync } from "node:fs";
import { HOST_NUMBERS, otherHost, OUTER_MTU_BYTES } from "../ground.ts";
import { foreignPath } from "./path.ts";

const DEVICE = "fastd0";
const PORT = 10_000;
/** Outer IPv4 and UDP headers, and the null method's one byte. */
const MTU_BYTES = OUTER_MTU_BYTES - 20 - 8 - 1;

export const fastd = foreignPath({
  id: "fastd",
  title: "fastd",
  note: "fastd in tun mode, method null",
  packages: { fastd: "fastd" },
  mtu_bytes: MTU_BYTES,
  build: async (ground) => {
    const keys = HOST_NUMBERS.map((host) => {
      const text = ground.run(host, "fastd", "--generate-key");
      const secret = /Secret: ([0-9a-f]{64})/.exec(text)?.[1];
      const open = /Public: ([0-9a-f]{64})/.exec(text)?.[1];
      if (secret === undefined || open === undefined) throw new Error(`no key in: ${text}`);
      return { secret, open };
    });
    for (const host of HOST_NUMBERS) {
      const other = otherHost(host);
      const lines = [
        `bind ${ground.outerAddress(host)}:${PORT};`,
        `interface "${DEVICE}"; mode tun; mtu ${MTU_BYTES}; method "null"; log level warn;`,
        `secret "${keys[host - 1]!.secret}";`,
        `peer "other" { key "${keys[other - 1]!.open}";`,
        `  remote ${ground.outerAddress(other)}:${PORT}; }`,
      ];
      const file = ground.file(`fastd${host}.conf`);
      writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o600 });
      ground.start(host, "fastd", "--config", file);
      await ground.device(host, DEVICE);
      ground.ip(host, "link", "set", DEVICE, "up");
      ground.route(host, "dev", DEVICE);
    }
  },
});
