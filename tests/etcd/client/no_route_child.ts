/**
 * Run in a network namespace of its own, without a route to most addresses. Prints as JSON what a
 * client says of each endpoint: its name here, and the text with the advice.
 */
import { execFileSync } from "node:child_process";
import { adviceText } from "../../../src/errors.ts";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";

const SETUP = [
  "ip link set lo up",
  "ip route add unreachable 10.97.0.0/24",
  "ip route add prohibit 10.96.0.0/24",
  "ip route add blackhole 10.95.0.0/24",
];
const ENDPOINTS = {
  noRoute: "http://10.93.0.1:2379",
  noRouteV6: "http://[fd09::1]:2379",
  unreachable: "http://10.97.0.1:2379",
  prohibited: "http://10.96.0.1:2379",
  blackHole: "http://10.95.0.1:2379",
  // Nobody listens there.
  refused: "http://127.0.0.1:2379",
};
const NONE = { cafile: null, certfile: null, keyfile: null, username: null, password: null };

for (const line of SETUP) {
  const [command, ...args] = line.split(" ") as [string, ...string[]];
  execFileSync(command, args);
}
const told: Record<string, string> = {};
for (const [name, endpoint] of Object.entries(ENDPOINTS)) {
  const etcd = openEtcd({ endpoints: [endpoint], ...NONE });
  told[name] = await etcd.get("/a").then(() => "no error", adviceText);
  etcd.close();
}
console.log(JSON.stringify(told));
