/** Judges what others on this host have made: devices in our way, chains that drop. */
import { chainText } from "../netlink/nftables/forward_chain.ts";
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

/** Which chains drop forwarded packets, and whether `selvage run` puts accept rules there. */
function judgeForwardDrops({ forwardDrops, legacyDrops, config }: HostFacts): Judged[] {
  const name = "forward chains";
  if (legacyDrops.length > 0) {
    const advice = `selvage run puts no rules there. Run: ${legacyDrops.join("; ")}`;
    const seen = "policy drop: FORWARD of iptables-legacy";
    return [{ name, result: "warning", seen, advice }];
  }
  if (forwardDrops === null) return [];
  const ours = forwardDrops.filter(({ table: { family } }) =>
    config === null || family === "inet" || config.families.includes(family)
  );
  if (ours.length === 0) return [{ name, result: "ok", seen: "none drops by default", advice: "" }];
  const shown = ours.slice(0, CHAINS_SHOWN_MAX).map(chainText);
  const rest = ours.length > shown.length ? ` and ${ours.length - shown.length} more` : "";
  const seen = `policy drop: ${shown.join(", ")}${rest}; selvage run puts accept rules at the head`;
  const advice =
    "With --iptables-forward-rules=own or =false these chains must accept the overlay themselves.";
  return [{ name, result: "ok", seen, advice }];
}

export function judgeOthers(facts: HostFacts): Judged[] {
  return [...facts.clashes.map(judgeClash), ...judgeForwardDrops(facts)];
}
