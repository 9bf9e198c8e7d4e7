import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { iperfArguments, parseIperf } from "./iperf.ts";
import { parseLatency } from "./latency.ts";
import { parseOptions } from "./options.ts";
import {
  endProcessesIn,
  parseMachineTime_s,
  parseProcessTime_s,
  processesIn,
  processTime_s,
} from "./processes.ts";
import { closeNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { runToEnd, startUntil } from "./children.ts";

const KNOWN = { tunnels: ["fastd", "tinc"], parts: ["udp", "fastd", "tinc", "micro"] };
const NEVER = new AbortController().signal;

test("iperf3's result is what was received", () => {
  const sum_sent = { bytes: 1500, seconds: 2 };
  const sum_received = { bytes: 1000, seconds: 2.5 };
  assert.deepEqual(parseIperf(JSON.stringify({ end: { sum_sent, sum_received } })), {
    received_bytes: 1000,
    sent_bytes: 1500,
    duration_s: 2.5,
  });
});

test("a failed test of iperf3 is an error, and so is one in which nothing arrived", () => {
  assert.throws(() => parseIperf('{"error": "unable to connect"}'), /iperf3: unable to connect/);
  assert.throws(() => parseIperf("{}"), /did not say/);
  const nothing = JSON.stringify({ end: { sum_received: { bytes: 0, seconds: 1 } } });
  assert.throws(() => parseIperf(nothing), /nothing arrived/);
});

test("iperf3 is told to send as much as goes", () => {
  const tcp = iperfArguments({ kind: "tcp", streams: 4 }, "10.0.0.1", 3).join(" ");
  assert.equal(tcp, "--client 10.0.0.1 --json --time 3 --parallel 4");
  const udp = iperfArguments({ kind: "udp", datagram_bytes: 64 }, "10.0.0.1", 3).join(" ");
  assert.match(udp, /--udp --bitrate 0 --length 64$/);
});

test("latency is read from the round trips, unless too many were lost", () => {
  const times_us = Array.from({ length: 200 }, (_, i) => i + 1);
  const read = (lost: number) => parseLatency(JSON.stringify({ lost, times_us }));
  assert.deepEqual(read(2), { p50_us: 100, p99_us: 198 });
  assert.throws(() => read(3), /3 of 203/);
  assert.throws(() => parseLatency('{"lost": 0, "times_us": []}'), /not answered/);
});

test("processor times are read whatever a program is called", () => {
  const stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
  assert.equal(parseProcessTime_s(stat), 1.75);
  const machine = "cpu  100 10 200 5000 300 20 30 400 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
  assert.equal(parseMachineTime_s(machine), 3.6);
  assert.ok(parseMachineTime_s(readFileSync("/proc/stat", "utf8")) > 0);
  assert.ok(processTime_s([process.pid]) > 0);
});

test("flags have their defaults, and --quick its own", () => {
  const full = parseOptions([], KNOWN);
  assert.deepEqual([full.rounds, full.duration_s, full.idle_s], [5, 5, 60]);
  assert.deepEqual([full.with, full.only, full.write], ["installed", null, false]);
  const quick = parseOptions(["--quick", "--seconds=2"], KNOWN);
  assert.deepEqual([quick.rounds, quick.duration_s, quick.idle_s], [1, 2, 5]);
});

test("lists name what there is", () => {
  assert.deepEqual(parseOptions(["--with=fastd,tinc"], KNOWN).with, ["fastd", "tinc"]);
  assert.deepEqual(parseOptions(["--with=none"], KNOWN).with, []);
  assert.equal(parseOptions(["--with=all"], KNOWN).with, "all");
  assert.deepEqual(parseOptions(["--only=udp,micro"], KNOWN).only, ["udp", "micro"]);
  assert.throws(() => parseOptions(["--with=openvpn"], KNOWN), /no openvpn; there is fastd, tinc/);
  assert.throws(() => parseOptions(["--only=tcp"], KNOWN), /no tcp/);
  assert.throws(() => parseOptions(["--rounds=0"], KNOWN), /--rounds is a number from 1/);
  assert.throws(() => parseOptions(["--fast"], KNOWN));
});

test("what runs in a namespace is found there and ended, also what a program started", async () => {
  const netns = createTestNetns();
  try {
    assert.deepEqual(processesIn(netns), []);
    const script = "sleep 600 & echo ready; wait";
    const limits = { timeout_ms: 10_000, signal: NEVER };
    const child = await startUntil(netns, "sh", ["-c", script], /ready/, limits);
    const pids = processesIn(netns);
    assert.equal(pids.length, 2);
    assert.ok(pids.includes(child.pid!), `${child.pid} is not among ${pids}`);
    await endProcessesIn(netns);
    assert.deepEqual(processesIn(netns), []);
  } finally {
    await endProcessesIn(netns);
    closeNetns(netns);
  }
});

test("a program that takes too long is ended, and its time limit named", async () => {
  const netns = createTestNetns();
  try {
    const limits = { timeout_ms: 50, signal: NEVER };
    await assert.rejects(
      runToEnd(netns, "sleep", ["600"], limits),
      /sleep: not done within 0.05 s/,
    );
    assert.deepEqual(processesIn(netns), []);
  } finally {
    closeNetns(netns);
  }
});
