/** Judges what others on this host have made: devices in our way, chains that drop. */
import { acceptCommands, acceptsFor, acceptTemplate } from "../kernel/forward_rules.ts";
import { familyText } from "../netlink/nftables/layout.ts";
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
    const advice = "selvage run inserts no rules there, so containers of different hosts cannot " +
      `reach each other. Run: ${legacyDrops.join("; ")}`;
    const seen = "chain FORWARD of iptables-legacy (policy DROP) drops the overlay's packets";
    return [{ name, result: "warning", seen, advice }];
  }
  if (forwardDrops === null) return [];
  const ours = forwardDrops.filter(({ table: { family } }) =>
    config === null || family === "inet" || config.families.includes(family)
  );
  if (ours.length === 0) return [{ name, result: "ok", seen: "none drops by default", advice: "" }];
  const named = ours.slice(0, CHAINS_SHOWN_MAX);
  const shown = named.map((chain) =>
    `chain ${chain.name} of table ${familyText(chain.table.family)} ${chain.table.name}`
  );
  const rest = ours.length > named.length ? `, and ${ours.length - named.length} more` : "";
  const seen = `${shown.join(", ")}${rest} (policy drop): packets that no rule accepts are ` +
    "dropped. selvage run inserts rules there that accept the overlay's packets";
  const commands = named.map((chain) =>
    config === null
      ? acceptTemplate(chain)
      : acceptCommands(chain, acceptsFor(chain, config.networks))
  ).join("; ");
  const advice =
    "Nothing to do. But with --iptables-forward-rules=own or =false selvage run inserts no rules " +
    "there, and packets between containers of different hosts are dropped until you run: " +
    commands;
  return [{ name, result: "ok", seen, advice }];
}

export function judgeOthers(facts: HostFacts): Judged[] {
  return [...facts.clashes.map(judgeClash), ...judgeForwardDrops(facts)];
}
