/** No encapsulation: each host routes to the other's containers by the other's address. */
import { HOST_NUMBERS, otherHost, OUTER_MTU_BYTES } from "../ground.ts";
import { foreignPath } from "./path.ts";

export const plain = foreignPath({
  id: "plain",
  title: "no encapsulation",
  note: "plain routes between the hosts",
  packages: {},
  mtu_bytes: OUTER_MTU_BYTES,
  build: (ground) => {
    for (const host of HOST_NUMBERS) {
      ground.route(host, "via", ground.outerAddress(otherHost(host)));
    }
  },
});
