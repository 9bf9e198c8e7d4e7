/** Ensures that only one selvage changes the kernel of a network namespace. */
import { holderOf, type NameHolder, NamespaceName } from "../../ffi/namespace_name.ts";
import { SelvageError } from "../errors.ts";
import { logger } from "../log.ts";
import { findNameHolder } from "../port_holder.ts";

/** The name that a running selvage has in its network namespace. */
export const NAMESPACE_NAME = "selvage";

/** The process that has the name in this network namespace; null: none was found. */
export function findHolder(name = NAMESPACE_NAME): NameHolder | null {
  return holderOf(name, findNameHolder);
}

/**
 * Claims the network namespace for this process, until it ends or closes what is returned. Throws
 * `conflict` if another selvage has it: two would undo each other's work without end. null: a
 * process that could not be one has the name, which must keep nobody from starting.
 */
export function claimNamespace(name = NAMESPACE_NAME, ask = findHolder): NamespaceName | null {
  const claim = NamespaceName.take(name);
  if (claim !== null) return claim;
  const holder = ask(name);
  if (holder !== null && [0, process.geteuid!()].includes(holder.uid)) {
    const which = holder.pid === 0 ? "" : ` (pid ${holder.pid})`;
    const text = `another selvage runs in this network namespace${which}`;
    throw new SelvageError("conflict", text, {
      hint: "Stop it first, or run this one in a network namespace of its own.",
    });
  }
  const whose = holder === null ? "a process" : `process ${holder.pid} of user ${holder.uid}`;
  logger("agent")
    .warning`${whose} holds the name @${name} (an abstract Unix socket), which only \
a running selvage should hold. So this one cannot see whether another selvage runs in this network \
namespace`;
  return null;
}
