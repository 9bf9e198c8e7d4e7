/** The packet loops' worker as a busy machine starts it: late. */
import { setTimeout } from "node:timers/promises";

await setTimeout(400);
await import("../../src/dataplane/worker.ts");
