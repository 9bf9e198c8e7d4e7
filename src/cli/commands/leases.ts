/** `selvage leases`: who holds which subnet. */
import type { Command } from "commander";
import type { ChangeLine, LeaseView, ReservationView } from "../../api/views.ts";
import { SelvageError } from "../../errors.ts";
import { leaseKey, parseLeaseKey } from "../../lease/lease.ts";
import type { IpAddress } from "../../net/ip.ts";
import type { CommandContext } from "../context.ts";
import { addAccessFlags, withAccess } from "../open_access.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import { printable, printableJson, printableLine } from "../../printable.ts";
import { type Cell, renderFittingTable } from "../table.ts";
import { formatCount, formatDuration, formatTime } from "../units.ts";
import { UsageError } from "../usage_error.ts";
import { hostAddress } from "../values.ts";

interface LeaseFlags {
  readonly json?: boolean;
}

interface ReserveFlags extends LeaseFlags {
  readonly force?: boolean;
  readonly publicIp?: IpAddress;
  readonly publicIpv6?: IpAddress;
}

const jsonFlag = () => boolFlag({ term: "json", description: "as JSON" });

/** When the lease ends, and in how long, as one text each. */
function expiryParts(lease: LeaseView, now_ms: number): string[] {
  if (lease.expiry_ms === undefined) return ["unknown"];
  if (lease.expiry_ms === null) {
    return lease.awaitsHost ? ["never (reserved),", "host has not come yet"] : ["never (reserved)"];
  }
  const left_ms = lease.expiry_ms - now_ms;
  const left = left_ms <= 0 ? "ended" : `${formatDuration(left_ms)} left`;
  return [formatTime(lease.expiry_ms), `(${left})`];
}

function expiryText(lease: LeaseView, now_ms: number): string {
  return expiryParts(lease, now_ms).join(" ");
}

/** The leases as a table. */
export function leaseTable(leases: readonly LeaseView[], now_ms: number): string {
  if (leases.length === 0) return "No leases yet.\n";
  const columns = ["SUBNET", "PUBLIC IP", "BACKEND", "EXPIRES"].map((title) => ({ title }));
  const rowsWith = (expiry: (lease: LeaseView) => Cell) =>
    leases.map((lease): Cell[] => [
      lease.subnets,
      lease.publicAddresses,
      lease.backendType,
      expiry(lease),
    ]);
  return renderFittingTable(
    { columns, rows: rowsWith((lease) => expiryText(lease, now_ms)) },
    { columns, rows: rowsWith((lease) => expiryParts(lease, now_ms)) },
  );
}

/** One change as a line. */
export function changeText(change: ChangeLine["changes"][number], now_ms: number): string {
  if (change.type === "delete") return printable(`- ${change.key}`);
  const { lease } = change;
  const addresses = lease.publicAddresses.join(", ");
  const text = `+ ${change.key} ${addresses} ${lease.backendType}, expires ` +
    expiryText(lease, now_ms);
  return printable(text);
}

function addList(leases: Command, context: CommandContext): void {
  const { io } = context;
  const command = leases.command("list", { isDefault: true })
    .description("show all leases and reservations")
    .addOption(jsonFlag());
  addAccessFlags(command).action(async (flags: LeaseFlags) => {
    const found = await withAccess(command, context, (access) => access.leases());
    const { leases, storeError, unreadableCount, unreadable = [] } = found;
    if (storeError !== null) {
      io.err(printable(`selvage: ${storeError}; these leases are what this host knew last`) + "\n");
    }
    if (unreadableCount > 0) {
      const entries = formatCount(unreadableCount, "entry", "entries");
      io.err(`selvage: ${entries} of the store cannot be read: not shown\n`);
      for (const { key, reason } of unreadable) io.err(printable(`  ${key}: ${reason}`) + "\n");
    }
    io.out(
      flags.json === true ? printableJson(leases) : leaseTable(leases, io.now_ms()),
    );
  });
}

/** The subnets as the user wrote them, checked. */
function subnetsOf(text: string): string[] {
  try {
    return parseLeaseKey(text.replaceAll(",", "&"), "subnet").map(String);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function addReserve(leases: Command, context: CommandContext): void {
  const { io } = context;
  const command = leases.command("reserve")
    .description("reserve a subnet permanently for the host with the given public address")
    .argument("<subnet>", "such as 10.5.9.0/24; dual-stack: 10.5.9.0/24,fc00:9::/64")
    .addOption(valueFlag({
      term: "public-ip <address>",
      description: "the host's public IPv4 address",
      parse: hostAddress(4),
    }))
    .addOption(valueFlag({
      term: "public-ipv6 <address>",
      description: "the host's public IPv6 address",
      parse: hostAddress(6),
    }))
    .addOption(boolFlag({
      term: "force",
      description:
        "take the subnet from another host, and replace an older reservation of this one",
    }))
    .addOption(jsonFlag());
  addAccessFlags(command).action(async (subnet: string, flags: ReserveFlags) => {
    const publicAddresses = [flags.publicIp, flags.publicIpv6].flatMap((one) => {
      return one === undefined ? [] : [one.toString()];
    });
    if (publicAddresses.length === 0) {
      throw new UsageError("leases reserve needs --public-ip, or --public-ipv6", "Whose is it?");
    }
    const subnets = subnetsOf(subnet);
    const { lease, moved } = await withAccess(command, context, async (access) => {
      const lease = await access.reserve(subnets, publicAddresses, flags.force === true);
      const { leases } = await access.leases();
      return { lease, moved: leases.filter((other) => isMovedBy(other, lease)) };
    });
    io.out(flags.json === true ? printableJson(lease) : reservationText(lease));
    for (const { key } of moved) {
      io.err(
        printable(`The host holds ${key} now. It moves at the next start of selvage there.`) + "\n",
      );
    }
  });
}

/** Whether it is the host's own lease, which the host gives up for the reservation. */
function isMovedBy(other: LeaseView, reserved: LeaseView): boolean {
  return other.key !== reserved.key && other.publicAddresses[0] === reserved.publicAddresses[0];
}

/** What was reserved, and which leases were deleted for it. */
export function reservationText(made: ReservationView): string {
  const host = made.publicAddresses.join(", ");
  const gone = (made.replaced ?? []).map((one) => {
    const holder = one.publicAddresses.join(", ") || "an unknown host";
    if (holder === host) return `${one.key} is no longer reserved for it`;
    const kind = one.expiry_ms === null ? "the reservation" : "the lease";
    return `${kind} ${one.key} of ${holder} is deleted; its host takes another subnet`;
  });
  return [`reserved ${made.key} for ${host}`, ...gone].map((line) => `${printable(line)}\n`).join(
    "",
  );
}

function addRevoke(leases: Command, context: CommandContext): void {
  const command = leases.command("revoke")
    .description("delete a lease or a reservation; its host then takes a new lease")
    .argument("<subnet>", "such as 10.5.9.0/24, or the lease's key 10.5.9.0-24")
    .addOption(jsonFlag());
  addAccessFlags(command).action(async (subnet: string, flags: LeaseFlags) => {
    subnetsOf(subnet);
    const key = leaseKey(parseLeaseKey(subnet.replaceAll(",", "&")));
    await withAccess(command, context, (access) => access.revoke(key));
    context.io.out(flags.json === true ? printableJson({ revoked: key }) : `revoked ${key}\n`);
  });
}

function addWatch(leases: Command, context: CommandContext): void {
  const { io } = context;
  const show = (line: ChangeLine, flags: LeaseFlags) => {
    if (flags.json === true) return io.out(printableLine(JSON.stringify(line)));
    const { storeError } = line;
    if (storeError === null) return io.err("selvage: the store is back\n");
    if (storeError !== undefined) {
      return io.err(`${printable(`selvage: the store is away, trying again: ${storeError}`)}\n`);
    }
    io.out(line.changes.map((change) => `${changeText(change, io.now_ms())}\n`).join(""));
  };
  const command = leases.command("watch")
    .description("show all leases, then every change, until Ctrl-C")
    .addOption(boolFlag({ term: "json", description: "one JSON line for each batch of changes" }));
  addAccessFlags(command).action(async (flags: LeaseFlags) => {
    const signal = io.interrupted();
    try {
      await withAccess(command, context, async (access) => {
        for await (const line of access.watch(signal)) show(line, flags);
      });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    if (signal.aborted) return;
    throw new SelvageError("unavailable", "selvage ended the watch", {
      hint: "It was stopped; start the watch again when it runs.",
    });
  });
}

const EXAMPLES = `
Examples:
  selvage leases
  selvage leases reserve 10.5.9.0/24 --public-ip 192.0.2.9
  selvage leases reserve 10.5.9.0/24 --public-ip 192.0.2.9 --force   even if another host holds it
  selvage leases revoke 10.5.9.0/24
  selvage leases watch --json
  selvage leases list --etcd-endpoints http://192.0.2.1:2379   from etcd, without a daemon
`;

/** Adds `leases` with its subcommands to the program. */
export function addLeases(program: Command, context: CommandContext): void {
  const leases = program.command("leases")
    .description("show, reserve, revoke and watch the leases of the network")
    .addHelpText("afterAll", EXAMPLES);
  addList(leases, context);
  addReserve(leases, context);
  addRevoke(leases, context);
  addWatch(leases, context);
}
