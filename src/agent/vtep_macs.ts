/** Keeps the MAC addresses of our VTEPs, so that peers need not learn new ones after a restart. */
import { join } from "node:path";
import { z } from "zod";
import type { VtepMacs } from "../backend/backend.ts";
import { errorText, hasCode } from "../errors.ts";
import { readFileBounded, writeFileAtomic } from "../files.ts";
import { logger } from "../log.ts";
import { checkedJson } from "../net/checked.ts";
import type { IpAddress } from "../net/ip.ts";
import { MacAddress } from "../net/mac_address.ts";

const FILE_NAME = "vtep.json";

const macSchema = z.string().transform((text) => MacAddress.parse(text))
  .refine((mac) => mac.isUnicast(), "not one station's address");

/** `node` is the address of whose they are: a state directory may be copied to another host. */
const schema = z.object({ node: z.string(), ipv4: macSchema, ipv6: macSchema });

/** The path of the file in the state directory. */
export function vtepMacsPath(stateDir: string): string {
  return join(stateDir, FILE_NAME);
}

function read(path: string): z.infer<typeof schema> | null {
  try {
    return checkedJson(schema, readFileBounded(path), path);
  } catch (error) {
    if (!hasCode(error, "not_found")) {
      logger("agent").warning`${errorText(error)}; making new VTEP addresses`;
    }
    return null;
  }
}

/**
 * The addresses in the state directory; where there are none yet, or those of another host, new
 * ones are made and kept there. `publicAddresses` says which host this is. Throws if they cannot be
 * written.
 */
export function loadVtepMacs(stateDir: string, publicAddresses: readonly IpAddress[]): VtepMacs {
  const path = vtepMacsPath(stateDir);
  const node = String(publicAddresses[0]);
  const kept = read(path);
  if (kept?.node === node) return { 4: kept.ipv4, 6: kept.ipv6 };
  const made = { 4: MacAddress.random(), 6: MacAddress.random() };
  keepVtepMacs(stateDir, publicAddresses, made);
  return made;
}

/** Keeps them for the next start of the host at these addresses. Throws if that cannot be. */
export function keepVtepMacs(
  stateDir: string,
  publicAddresses: readonly IpAddress[],
  vtepMacs: VtepMacs,
): void {
  const node = String(publicAddresses[0]);
  const text = JSON.stringify({ node, ipv4: vtepMacs[4], ipv6: vtepMacs[6] });
  const path = vtepMacsPath(stateDir);
  writeFileAtomic(path, `${text}\n`, { mode: 0o600, directoryMode: 0o700 });
}
