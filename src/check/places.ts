/** Files and clock. */
import { accessSync, constants, existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { isClockSynchronised } from "../../ffi/host.ts";
import { requirePrivateStateDir } from "../agent/preflight.ts";
import { fileReason, SelvageError } from "../errors.ts";
import { fileHint, probeWritable } from "../files.ts";
import type { ClockFacts, PlaceFacts, Trial } from "./facts.ts";
import type { CheckOptions } from "./options.ts";
import { attempt, codeOf, valueOr } from "./trial.ts";

/** One page of data: a full file system has no room for it. */
const PROBE_CONTENT = new Uint8Array(4096);

/** The nearest directory above a path, itself included, that is there. */
function existing(path: string): string {
  let at = resolve(path);
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

/** Also whether it is this user's alone, as `selvage run` demands. */
function tryStateDir(path: string): Trial {
  const trial = tryDirectory(path);
  return trial.state === "works" ? attempt(() => requirePrivateStateDir(path)) : trial;
}

/** Throws `unavailable` with what to do if nothing can be put into a directory that is there. */
function requireWritable(directory: string, probe: () => void): void {
  try {
    probe();
  } catch (thrown) {
    // The error of `probeWritable` names its probe file, which means nothing to the user.
    const error = thrown instanceof SelvageError ? thrown.cause : thrown;
    const hint = fileHint(codeOf(error), directory);
    const text = `cannot write into ${directory}: ${fileReason(error)}`;
    throw new SelvageError("unavailable", text, { hint, cause: error });
  }
}

/** Whether a file can be put into a directory, which may have to be made; none is made here. */
function tryDirectory(directory: string): Trial {
  return attempt(() => {
    const there = existing(directory);
    if (!statSync(there).isDirectory()) {
      throw new SelvageError("unavailable", `${there} is not a directory`);
    }
    const isThere = there === resolve(directory);
    requireWritable(there, () => {
      if (isThere) probeWritable(join(there, "selvage-check"), PROBE_CONTENT);
      else accessSync(there, constants.W_OK | constants.X_OK);
    });
  });
}

function tryFile(path: string): Trial {
  if (existing(path) !== resolve(path)) return tryDirectory(dirname(resolve(path)));
  return attempt(() => {
    if (statSync(path).isDirectory()) {
      throw new SelvageError("unavailable", `${path} is a directory`);
    }
    probeWritable(path, PROBE_CONTENT);
  });
}

export function probePlaces({ stateDir, subnetFile, apiSocket }: CheckOptions): PlaceFacts[] {
  return [
    { name: "state directory", path: stateDir, trial: tryStateDir(stateDir) },
    { name: "subnet file", path: subnetFile, trial: tryFile(subnetFile) },
    { name: "API socket", path: apiSocket, trial: tryDirectory(dirname(resolve(apiSocket))) },
  ];
}

export function probeClock(stateDir: string): ClockFacts {
  const written = valueOr(() => readdirSync(stateDir), [])
    .flatMap((name) => valueOr(() => [statSync(join(stateDir, name)).mtimeMs], []));
  return {
    now_ms: Date.now(),
    isSynchronised: valueOr(isClockSynchronised, null),
    newestState_ms: written.length === 0 ? null : Math.max(...written),
  };
}
