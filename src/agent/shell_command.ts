/**
 * Runs a command that the network's configuration names, for backend `extension`. It is the one
 * place of the daemon that runs programs: those that the user names, and no others.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { errorText, SelvageError } from "../errors.ts";
import { pause } from "../retry.ts";

const TIMEOUT_MS = 30_000;
/** What a command prints beyond this is read and forgotten. */
const OUTPUT_LENGTH_MAX = 64 * 1024;
/** A command that prints more than this is ended: reading it for ever would cost a processor. */
const PRINTED_MAX_BYTES = 1024 * 1024;
/** How long the output of a command that has ended is waited for: others may hold the pipe. */
const DRAIN_MS = 200;
/** How much of what it said is in an error. */
const SAID_LENGTH_MAX = 200;

export interface ShellCommand {
  /** The name of the option, for errors. */
  readonly name: string;
  /** For `sh -c`. */
  readonly text: string;
  /** Beside `KEPT_VARIABLES`. */
  readonly environment: Readonly<Record<string, string>>;
  /** What it can read, a line break after it. */
  readonly input: string;
  readonly timeout_ms?: number;
}

/**
 * Reads a stream to its end and keeps as much as is bounded; call it for what there is. `onTooMuch`
 * is called once it has printed more than is read; then nothing more is.
 */
function collect(stream: Readable, onTooMuch: () => void): () => string {
  const decoder = new TextDecoder();
  let text = "";
  let printed_bytes = 0;
  stream.on("data", (part: Uint8Array) => {
    printed_bytes += part.length;
    if (text.length < OUTPUT_LENGTH_MAX) {
      text += decoder.decode(part, { stream: true }).slice(0, OUTPUT_LENGTH_MAX - text.length);
    }
    if (printed_bytes <= PRINTED_MAX_BYTES) return;
    stream.destroy();
    onTooMuch();
  });
  return () => text.trim();
}

/** Ends the command with all that it started and that has not left its process group. */
function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // They have ended a moment ago.
  }
}

/**
 * What a command gets of our environment. The rest is left out, because it may hold etcd's password
 * and join strings.
 */
const KEPT_VARIABLES = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"] as const;
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

function environmentOf(own: ShellCommand["environment"]): Record<string, string> {
  const kept = KEPT_VARIABLES.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { PATH: DEFAULT_PATH, ...Object.fromEntries(kept), ...own };
}

function start({ name, text, environment, input }: ShellCommand) {
  try {
    const child = spawn("sh", ["-c", text], {
      detached: true,
      stdio: "pipe",
      env: environmentOf(environment),
      cwd: "/",
    });
    // A command need not read.
    child.stdin.on("error", () => {});
    child.stdin.end(`${input}\n`);
    return child;
  } catch (error) {
    throw new SelvageError("unavailable", `${name} cannot be run: ${errorText(error)}`);
  }
}

/** What to say of a command that did not end well. */
function failure(name: string, how: string, said: string): SelvageError {
  const last = said.split("\n").at(-1)!.slice(0, SAID_LENGTH_MAX);
  return new SelvageError("unavailable", `${name} ${how}${last === "" ? "" : `: ${last}`}`);
}

/**
 * Runs a command to its end and resolves with what it printed to stdout, without space at either
 * end. Rejects with `unavailable` if its status is not 0, and if it has not ended in time (30 s) or
 * by the time the signal is aborted, or printed more than 1 MiB; it is then ended, with all
 * processes of its group.
 */
export async function runShellCommand(command: ShellCommand, signal: AbortSignal): Promise<string> {
  const { name, timeout_ms = TIMEOUT_MS } = command;
  if (signal.aborted) throw failure(name, "was not run", "");
  const child = start(command);
  let ending: string | null = null;
  const end = (why: string) => {
    ending ??= why;
    // What a command that has ended left running is not ours to end.
    if (child.exitCode === null && child.signalCode === null) endGroup(child);
  };
  const onTooMuch = () => end(`printed more than ${PRINTED_MAX_BYTES / 2 ** 20} MiB`);
  const [output, errors] = [collect(child.stdout, onTooMuch), collect(child.stderr, onTooMuch)];
  const onAbort = () => end("was ended, as this daemon ends");
  const timer = setTimeout(() => end(`did not end within ${timeout_ms / 1000} s`), timeout_ms);
  signal.addEventListener("abort", onAbort, { once: true });
  const letGo = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  };
  try {
    const closed = new AbortController();
    child.once("close", () => closed.abort());
    const [status, killer] = await once(child, "exit") as [number | null, string | null];
    // What it left running in the background is no longer ours to end.
    letGo();
    await pause(DRAIN_MS, closed.signal);
    if (ending !== null) throw failure(name, ending, errors());
    if (status === 0) return output();
    const how = killer === null ? `ended with status ${status}` : `was ended by ${killer}`;
    throw failure(name, how, errors() || output());
  } catch (error) {
    if (error instanceof SelvageError) throw error;
    throw failure(name, "cannot be run", errorText(error));
  } finally {
    letGo();
    // What it left running in the background writes to nobody.
    child.stdout.destroy();
    child.stderr.destroy();
  }
}
