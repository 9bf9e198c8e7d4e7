/** The probe: stands in for a program in a container; pings and transfers when it is asked to. */
import { createInterface } from "node:readline";
import { endWithParent } from "../../ffi/process.ts";
import { END_WITH_PARENT } from "../agent/options.ts";
import { errorText } from "../errors.ts";
import { IpAddress } from "../net/ip.ts";
import { ping } from "./ping.ts";
import type { ProbeAnswer, ProbeReady, ProbeRequest } from "./probe_protocol.ts";
import { sendTransfer, serveTransfers } from "./transfer.ts";

function say(value: ProbeReady | ProbeAnswer): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function carryOut(request: ProbeRequest): Promise<ProbeAnswer> {
  try {
    if (request.do === "ping") {
      const address = IpAddress.parse(request.address);
      return { ok: true, result: ping(address, request.count, request.timeout_ms) };
    }
    const { address, port, size_bytes, timeout_ms } = request;
    return { ok: true, result: await sendTransfer(address, port, size_bytes, timeout_ms) };
  } catch (error) {
    return { ok: false, error: errorText(error) };
  }
}

/** Serves requests from stdin, one after the other, until it ends. Gives the exit status. */
export async function runProbe(): Promise<number> {
  endWithParent(Number(process.env[END_WITH_PARENT]));
  const { server, port } = await serveTransfers();
  say({ port });
  for await (const line of createInterface({ input: process.stdin })) {
    say(await carryOut(JSON.parse(line) as ProbeRequest));
  }
  server.close();
  return 0;
}
