/**
 * Watches and asks a cluster of etcd that only this process's namespace reaches:
 *
 *     etcd_observer_child.ts PREFIX ENDPOINT...
 *
 * Prints a line of JSON for each event under the prefix. Answers each line
 * `{ id, member, path, body }`, a question to etcd's JSON gateway, with `{ id, answer }`: of that
 * member, or of the first that gives one where `member` is null; `{ id, error }`: none did.
 */
import { createInterface } from "node:readline";
import process from "node:process";
import { History } from "../etcd/history.ts";

const ANSWER_MS = 1_000;
const [prefix, ...endpoints] = process.argv.slice(2) as [string, ...string[]];

interface Question {
  readonly id: number;
  readonly member: number | null;
  readonly path: string;
  readonly body: unknown;
}

const say = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);

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

const history = new History(endpoints, prefix, (event) => {
  say({ event: { ...event, revision: String(event.revision) } });
});
for await (const line of createInterface({ input: process.stdin })) {
  // What is lost is lost for every later answer.
  if (history.failure !== null) say({ failure: history.failure });
  void answer(JSON.parse(line));
}
process.exit(0);
