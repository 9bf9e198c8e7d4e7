/** tinc 1.0 in router mode, with neither cipher nor digest. */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HOST_NUMBERS, otherHost, OUTER_MTU_BYTES, subnetOf } from "../ground.ts";
import { foreignPath } from "./path.ts";

const DEVICE = "tinc0";
/** Outer IPv4 and UDP headers, tinc's sequence number, and the Ethernet header it carries. */
const MTU_BYTES = OUTER_MTU_BYTES - 20 - 8 - 4 - 14;
const KEY_BITS = 2048;

export const tinc = foreignPath({
  id: "tinc",
  title: "tinc",
  note: "tinc 1.0, router mode, Cipher and Digest none",
  packages: { tincd: "tinc" },
  mtu_bytes: MTU_BYTES,
  build: async (ground) => {
    const keys = HOST_NUMBERS.map(() =>
      generateKeyPairSync("rsa", {
        modulusLength: KEY_BITS,
        publicKeyEncoding: { type: "pkcs1", format: "pem" },
        privateKeyEncoding: { type: "pkcs1", format: "pem" },
      })
    );
    for (const host of HOST_NUMBERS) {
      const directory = ground.file(`tinc${host}`);
      mkdirSync(join(directory, "hosts"), { recursive: true, mode: 0o700 });
      const connect = host === 2 ? "ConnectTo = host1\n" : "";
      writeFileSync(
        join(directory, "tinc.conf"),
        `Name = host${host}\n${connect}Interface = ${DEVICE}\nMode = router\n`,
      );
      writeFileSync(join(directory, "rsa_key.priv"), keys[host - 1]!.privateKey, { mode: 0o600 });
      for (const one of HOST_NUMBERS) {
        const lines = [
          `Address = ${ground.outerAddress(one)}`,
          `Subnet = ${subnetOf(one)}`,
          "Cipher = none",
          "Digest = none",
          keys[one - 1]!.publicKey,
        ];
        writeFileSync(join(directory, "hosts", `host${one}`), lines.join("\n"));
      }
    }
    for (const host of HOST_NUMBERS) {
      const pidFile = `--pidfile=${ground.file(`tinc${host}.pid`)}`;
      ground.start(host, "tincd", "-D", "-c", ground.file(`tinc${host}`), pidFile);
      await ground.device(host, DEVICE);
      ground.ip(host, "link", "set", DEVICE, "mtu", String(MTU_BYTES), "up");
      ground.route(host, "dev", DEVICE);
    }
    await ground.until("tinc connects", () => {
      return HOST_NUMBERS.every((host) => ground.connectionCount(otherHost(host)) > 0);
    });
  },
});
