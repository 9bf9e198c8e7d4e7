/** What the demo and the probe in a container say to each other: one JSON value a line. */
import type { PingResult } from "./ping.ts";
import type { TransferResult } from "./transfer.ts";

/** Name of the hidden command that is the probe. */
export const PROBE_COMMAND = "demo-probe";

export type ProbeRequest =
  | { readonly do: "ping"; readonly address: string; readonly count: number; timeout_ms: number }
  | {
    readonly do: "send";
    readonly address: string;
    readonly port: number;
    readonly size_bytes: number;
    readonly timeout_ms: number;
  };

/** The first line says that the probe is there and where it takes transfers. */
export interface ProbeReady {
  readonly port: number;
}

export type ProbeAnswer =
  | { readonly ok: true; readonly result: PingResult | TransferResult }
  | { readonly ok: false; readonly error: string };
