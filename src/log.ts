/** Logging: one line a record on stderr, which a service manager keeps. */
import { printable } from "./printable.ts";
import { configure, getLogger, type Logger, type LogLevel, type LogRecord } from "@logtape/logtape";

export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const satisfies LogLevel[];
export type Level = (typeof LOG_LEVELS)[number];

function format(record: LogRecord): string {
  const time = new Date(record.timestamp).toISOString();
  const subject = record.category.slice(1).join(".");
  // A line break in what a peer or a store sent must not look like a record of its own.
  const line = printable(record.message.map(String).join(""));
  return `${time} ${record.level.toUpperCase().padEnd(7)} ${subject}: ${line}\n`;
}

/** Sends every record of at least this level to stderr. */
export async function setUpLog(level: Level): Promise<void> {
  await configure({
    sinks: { stderr: (record: LogRecord) => void process.stderr.write(format(record)) },
    loggers: [
      { category: ["selvage"], sinks: ["stderr"], lowestLevel: level },
      { category: ["logtape", "meta"], sinks: ["stderr"], lowestLevel: "error" },
    ],
    reset: true,
  });
}

/** The logger of one part of Selvage. */
export function logger(subject: string): Logger {
  return getLogger(["selvage", subject]);
}
