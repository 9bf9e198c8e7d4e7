/**
 * Keeps which outer interface and addresses were in use, so that a restart does not move the host
 * because another default route or address has appeared meanwhile.
 */
import { join } from "node:path";
import { z } from "zod";
import { errorText, hasCode } from "../errors.ts";
import { readFileBounded, writeFileAtomic } from "../files.ts";
import type { HeldLink, OuterLink, OuterLinkChoice } from "../kernel/outer_link.ts";
import { logger } from "../log.ts";
import { checkedJson } from "../net/checked.ts";
import { IpAddress } from "../net/ip.ts";

const FILE_NAME = "outer_link.json";

const schema = z.object({
  interface: z.string(),
  addresses: z.array(z.string().transform((text) => IpAddress.parse(text))).max(2),
  /** The flags that it was chosen by: with others it is chosen anew. */
  flags: z.string(),
});

export function keptLinkPath(stateDir: string): string {
  return join(stateDir, FILE_NAME);
}

function flagsText(choice: OuterLinkChoice): string {
  const { interfaces, interfaceRegexes, canReach, publicAddresses } = choice;
  return JSON.stringify([interfaces, interfaceRegexes, canReach, publicAddresses]);
}

/** What the last run with the same flags used; null: that is not known. */
export function readKeptLink(stateDir: string, choice: OuterLinkChoice): HeldLink | null {
  const path = keptLinkPath(stateDir);
  try {
    const kept = checkedJson(schema, readFileBounded(path), path);
    if (kept.flags !== flagsText(choice)) return null;
    return { name: kept.interface, addresses: kept.addresses, isInUse: false };
  } catch (error) {
    // A user who may not read the file, such as one who runs selvage check, gets no choice from it.
    if (!hasCode(error, "not_found") && !hasCode(error, "permission")) {
      logger("agent").warning`${errorText(error)}; the outer interface is chosen anew`;
    }
    return null;
  }
}

/** Keeps what is in use for the next start. Throws if the file cannot be written. */
export function keepLink(
  stateDir: string,
  choice: OuterLinkChoice,
  { name, addresses }: OuterLink,
): void {
  const text = JSON.stringify({ interface: name, addresses, flags: flagsText(choice) });
  writeFileAtomic(keptLinkPath(stateDir), `${text}\n`, { mode: 0o600, directoryMode: 0o700 });
}
