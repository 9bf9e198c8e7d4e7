/** A shell that stays in a namespace: what is done there by many small programs costs little. */
import { once } from "node:events";
import type { ChildProcess } from "node:child_process";
import type { Netns } from "../../ffi/netns.ts";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";

/** Ends what a script printed; nothing else prints it. */
const END = "\u0003 end of the script\n";

export class NamespaceShell {
  readonly #child: ChildProcess;
  #text = "";

  /** The caller ends it. */
  constructor(netns: Netns) {
    this.#child = spawnInNetns(netns, "sh", [], ["pipe", "pipe", "inherit"]);
    this.#child.stdout!.setEncoding("utf8").on("data", (part: string) => this.#text += part);
  }

  /** Runs a script, one at a time; resolves with all that it prints, errors included. */
  async run(script: string): Promise<string> {
    this.#text = "";
    this.#child.stdin!.write(`{ ${script}\n} 2>&1; printf '%s' '${END}'\n`);
    while (!this.#text.endsWith(END)) await once(this.#child.stdout!, "data");
    return this.#text.slice(0, -END.length);
  }

  end(): Promise<void> {
    return endProcess(this.#child);
  }
}
