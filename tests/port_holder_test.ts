import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { IpAddress } from "../src/net/ip.ts";
import { findPortHolder, portHolderText } from "../src/port_holder.ts";

const LOOPBACK = IpAddress.parse("127.0.0.1");
const command = readFileSync("/proc/self/comm", "utf8").trimEnd();

for (const host of ["127.0.0.1", "0.0.0.0", "::1", "::"]) {
  test(`the process that listens at ${host} is found by its port`, async () => {
    const server = createServer().listen({ host, port: 0 });
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const userId = process.getuid!();
    const own = { pid: process.pid, command, userId };
    assert.deepEqual(findPortHolder("tcp", IpAddress.parse(host), port), own);
    assert.equal(findPortHolder("udp", IpAddress.parse(host), port), null);
    if (host === "::1") assert.equal(findPortHolder("tcp", LOOPBACK, port), null);
    else assert.deepEqual(findPortHolder("tcp", LOOPBACK, port), own);
    server.close();
  });
}

test("a UDP port's holder is named; another address's is not", async () => {
  const socket = createSocket("udp4").bind(0, "127.0.0.2");
  await once(socket, "listening");
  const { port } = socket.address();
  const text = portHolderText("udp", IpAddress.parse("127.0.0.2"), port);
  assert.equal(text, ` by ${command} (process ${process.pid}, user ${process.getuid!()})`);
  assert.equal(portHolderText("udp", LOOPBACK, port), "");
  socket.close();
});

test("a process that may not be looked into is named by its user", async () => {
  const server = createServer().listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  // As the service's unit has it: root, without the right to look into what has more rights.
  const script = `const { portHolderText } = await import("./src/port_holder.ts");
    const { IpAddress } = await import("./src/net/ip.ts");
    console.log(portHolderText("tcp", IpAddress.parse("127.0.0.1"), ${port}));`;
  const child = spawn("setpriv", [
    "--bounding-set=-all",
    "--inh-caps=-all",
    "node_modules/@oven/bun-linux-x64/bin/bun",
    "-e",
    script,
  ], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => text += part);
  await once(child, "close");
  assert.equal(text, ` by a process of user ${process.getuid!()}\n`);
  server.close();
});
