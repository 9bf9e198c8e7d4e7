/** Judges what others on this host have made: devices in our way, chains that drop. */
import type { ForwardDrop } from "../netlink/nftables/forward_drop.ts";
import type { DeviceClash, HostFacts } from "./facts.ts";
import type { Judged } from "./judge_kernel.ts";

/** How many chains are named. */
const CHAINS_SHOWN_MAX = 3;

function judgeClash(clash: DeviceClash): Judged {
  const { name, backends: blocks } = clash;
  if (clash.type === "name") {
    const advice = `Remove or rename it: ip link delete ${name}`;
    const seen = `there is one that is not ours: ${clash.kind}`;
    return { name: `device ${name}`, result: "missing", seen, advice, blocks };
  }
  const { vni, port } = clash;
  const advice = `Remove it (ip link delete ${name}), or set Backend.VNI or Backend.Port.`;
  const seen = `in use by device ${name}`;
  return { name: `VNI ${vni}, port ${port}`, result: "missing", seen, advice, blocks };
}

/** What lets the overlay pass a chain; NETWORK is the overlay's. */
function acceptCommand({ familyText, table, chain }: ForwardDrop): string {
  const isIptables = familyText !== "inet" && table === "filter" && chain === "FORWARD";
  const program = familyText === "ip6" ? "ip6tables" : "iptables";
  return isIptables
    ? `${program} -I FORWARD -s NETWORK -j ACCEPT, and the same with -d`
    : `nft insert rule ${familyText} ${table} ${chain} ` +
      `${familyText === "ip6" ? "ip6" : "ip"} saddr NETWORK accept, and the same with daddr`;
}

/** Whether a rule accepts the overlay is not looked at: it may be there already. */
function judgeForwardDrops({ forwardDrops, config }: HostFacts): Judged[] {
  if (forwardDrops === null) return [];
  const name = "forward chains";
  const ours = forwardDrops.filter(({ families }) =>
    config === null || families.some((family) => config.families.includes(family))
  );
  const [first] = ours;
  if (first === undefined) {
    return [{ name, result: "ok", seen: "none of nftables drops by default", advice: "" }];
  }
  const shown = ours.slice(0, CHAINS_SHOWN_MAX)
    .map(({ familyText, table, chain }) => `${familyText} ${table} ${chain}`);
  const rest = ours.length > shown.length ? ` and ${ours.length - shown.length} more` : "";
  const seen = `policy drop: ${shown.join(", ")}${rest}`;
  const advice = `Where none of its rules accepts the overlay: ${acceptCommand(first)}`;
  return [{ name, result: "warning", seen, advice }];
}

export function judgeOthers(facts: HostFacts): Judged[] {
  return [...facts.clashes.map(judgeClash), ...judgeForwardDrops(facts)];
}
