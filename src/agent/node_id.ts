/** The id by which other hosts and the store recognise this node, whatever its addresses are. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { errorText, hasCode } from "../errors.ts";
import { readFileBounded, writeFileAtomic } from "../files.ts";
import { logger } from "../log.ts";

export const NODE_ID_FILE = "node_id";
const ID_SIZE_BYTES = 16;

/** 128 random bits as hexadecimal digits. */
export function randomId(): string {
  return randomBytes(ID_SIZE_BYTES).toString("hex");
}

export function nodeIdPath(stateDir: string): string {
  return join(stateDir, NODE_ID_FILE);
}

/** Keeps the id for the next start. Throws if the file cannot be written. */
export function keepNodeId(stateDir: string, id: string): void {
  writeFileAtomic(nodeIdPath(stateDir), `${id}\n`, { mode: 0o600, directoryMode: 0o700 });
}

/**
 * The id in the state directory; if there is none that can be read, a new one is made and kept
 * there. Throws if it cannot be written.
 */
export function loadNodeId(stateDir: string): string {
  const path = nodeIdPath(stateDir);
  try {
    const id = readFileBounded(path).trim();
    if (/^[0-9a-f]{32}$/.test(id)) return id;
    logger("agent").warning`${path} holds no node id; making a new one`;
  } catch (error) {
    if (!hasCode(error, "not_found")) {
      logger("agent").warning`${errorText(error)}; making a new node id`;
    }
  }
  const made = randomId();
  keepNodeId(stateDir, made);
  return made;
}
