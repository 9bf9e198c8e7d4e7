/**
 * Watches and asks a cluster of etcd that only this process's namespace reaches, by its JSON
 * gateway: what it says of what our client has done does not rest on our client.
 *
 *     etcd_observer_child.ts PREFIX ENDPOINT...
 *
 * Prints a line of JSON for each event under the prefix, in order and without a gap, whatever
 * becomes of the members. Answers each line `{ id, member, path, body }` with `{ id, answer }`: a
 * member's answer, or the first that any gives where `member` is null; `{ id, error }`: none did.
 */
import { createInterface } from "node:readline";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";

const ANSWER_MS = 1_000;
const RETRY_MS = 50;
const [prefix, ...endpoints] = process.argv.slice(2) as [string, ...string[]];
/** The range's end: a prefix ends with a character before the last. */
const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);

interface Event {
  readonly type?: "DELETE";
  readonly kv: { readonly key: string; readonly value?: string; readonly mod_revision: string };
}
interface Response {
  readonly result?: {
    readonly canceled?: boolean;
    readonly compact_revision?: string;
    readonly events?: readonly Event[];
  };
}
interface Question {
  readonly id: number;
  readonly member: number | null;
  readonly path: string;
  readonly body: unknown;
}

const base64 = (text: string) => Buffer.from(text).toString("base64");
const text = (encoded = "") => Buffer.from(encoded, "base64").toString();
const say = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** All events up to this revision have been printed. */
let seen = 0n;

function tell({ result }: Response): void {
  if (result?.compact_revision !== undefined) throw new Error("events are lost to a compaction");
  // What one revision did comes in one response.
  const before = seen;
  for (const { type, kv } of result?.events ?? []) {
    const revision = BigInt(kv.mod_revision);
    if (revision <= before) continue;
    seen = revision;
    const [key, value] = [text(kv.key), type === "DELETE" ? null : text(kv.value)];
    say({ event: { key, value, revision: String(revision) } });
  }
}

/** One stream of one member, until it breaks. */
async function watchOnce(endpoint: string): Promise<void> {
  const range = { key: base64(prefix), range_end: base64(end) };
  const create_request = { ...range, start_revision: String(seen + 1n) };
  const body = JSON.stringify({ create_request });
  const stream = await fetch(`${endpoint}/v3/watch`, { method: "POST", body });
  let rest = "";
  for await (const part of stream.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + part).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line !== "") tell(JSON.parse(line));
  }
}

/** All members are watched at once: the one that is not cut off has what has happened. */
async function watch(endpoint: string): Promise<never> {
  while (true) {
    await watchOnce(endpoint).catch((error) => {
      if (String(error).includes("compaction")) say({ error: String(error) });
    });
    await pause(RETRY_MS);
  }
}

async function ask(endpoint: string, path: string, body: unknown): Promise<unknown> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const options = { method: "POST", body: JSON.stringify(body), signal };
  const response = await fetch(`${endpoint}${path}`, options);
  const said = await response.text();
  if (!response.ok) throw new Error(`${endpoint}${path}: ${response.status} ${said}`);
  return JSON.parse(said);
}

async function answer({ id, member, path, body }: Question): Promise<void> {
  const asked = member === null ? endpoints : [endpoints[member]!];
  try {
    say({ id, answer: await Promise.any(asked.map((endpoint) => ask(endpoint, path, body))) });
  } catch (error) {
    const reasons = error instanceof AggregateError ? error.errors : [error];
    say({ id, error: reasons.map(String).join("; ") });
  }
}

for (const endpoint of endpoints) void watch(endpoint);
for await (const line of createInterface({ input: process.stdin })) void answer(JSON.parse(line));
process.exit(0);
