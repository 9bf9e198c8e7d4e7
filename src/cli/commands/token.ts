/** `selvage token`: what lets other hosts join, and programs use the API. */
import type { Command } from "commander";
import type { TokenScope, TokenView } from "../../api/control.ts";
import { DEFAULTS } from "../../agent/options.ts";
import { SelvageError } from "../../errors.ts";
import { formatHostPort, type HostPort } from "../../net/host_port.ts";
import { printable, printableJson } from "../../printable.ts";
import { addClientFlags, type ClientFlags, openClient, succeeded } from "../client.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag, listFlag, valueFlag } from "../flags.ts";
import { renderTable } from "../table.ts";
import { formatTime } from "../units.ts";
import { UsageError } from "../usage_error.ts";
import { namedHostPort, nonEmpty, oneOf } from "../values.ts";

interface CreateFlags extends ClientFlags {
  readonly scope: TokenScope;
  readonly address?: readonly HostPort[];
  readonly description?: string;
  readonly json?: boolean;
}

interface ListFlags extends ClientFlags {
  readonly json?: boolean;
}

const SCOPES = ["join", "api"] as const;

const NEXT_STEPS: Readonly<Record<TokenScope, string>> = {
  join: "On each other host, with this in a file of mode 0600: selvage run --join @FILE",
  api: "Send it as the header Authorization: Bearer TOKEN, or set SELVAGE_TOKEN.",
};

function addCreate(token: Command, { io }: CommandContext): void {
  const command = token.command("create")
    .description("make a token, and print only the join string or the API token")
    .addOption(valueFlag({
      term: "scope <scope>",
      description: "join: to join this host's registry; api: to change things over TCP",
      parse: oneOf(SCOPES),
      default: "join" as TokenScope,
    }))
    .addOption(listFlag({
      term: "address <host:port>",
      description:
        "other address at which hosts reach the registry, such as of a NAT router; repeatable",
      parse: namedHostPort(DEFAULTS.registryPort),
    }))
    .addOption(valueFlag({
      term: "description <text>",
      description: "note for `selvage token list`, such as who uses the token",
      parse: nonEmpty,
    }))
    .addOption(boolFlag({ term: "json", description: "id and secret as JSON" }));
  addClientFlags(command).action(async (flags: CreateFlags) => {
    const { scope, address, description } = flags;
    if (scope === "api" && address !== undefined) {
      throw new UsageError("--address means nothing with --scope api");
    }
    const [first, ...rest] = (address ?? []).map(formatHostPort);
    const json = {
      scope,
      // A single address is sent as a text, which older daemons understand.
      ...(first === undefined ? {} : { address: rest.length === 0 ? first : [first, ...rest] }),
      ...(description === undefined ? {} : { description }),
    };
    const created = await (await succeeded(openClient(flags).v1.tokens.$post({ json }))).json();
    if (flags.json === true) return io.out(printableJson(created));
    io.out(`${created.secret}\n`);
    io.err(`${NEXT_STEPS[scope]}\nKeep it secret: it is not shown again.\n`);
  });
}

/** The tokens as a table. */
export function tokenTable(tokens: readonly TokenView[]): string {
  if (tokens.length === 0) return "No tokens.\n";
  return renderTable(
    ["ID", "SCOPE", "CREATED", "DESCRIPTION"].map((title) => ({ title })),
    tokens.map((one) => [one.id, one.scope, formatTime(one.created_ms), one.description]),
  );
}

function addList(token: Command, { io }: CommandContext): void {
  const command = token.command("list")
    .description("show all tokens, without their secrets")
    .addOption(boolFlag({ term: "json", description: "as JSON" }));
  addClientFlags(command).action(async (flags: ListFlags) => {
    const answer = await succeeded(openClient(flags).v1.tokens.$get());
    const { tokens, note, keepsRegistry } = await answer.json();
    // A host that joined keeps only its own API tokens. An older daemon does not say what it keeps.
    if (keepsRegistry === false && tokens.length === 0) {
      throw new SelvageError(
        "unsupported",
        "this host keeps no registry, and it has no API tokens of its own",
        { hint: note ?? "" },
      );
    }
    if (note !== null) io.err(`${printable(note)}\n`);
    io.out(flags.json === true ? printableJson(tokens) : tokenTable(tokens));
  });
}

function addRevoke(token: Command, { io }: CommandContext): void {
  const command = token.command("revoke")
    .description("make a token invalid from now on")
    .argument("<id>", "id from `selvage token list`");
  addClientFlags(command).action(async (id: string, flags: ClientFlags) => {
    const param = { id: encodeURIComponent(id) };
    await succeeded(openClient(flags).v1.tokens[":id"].$delete({ param }));
    io.out(`revoked ${id}\n`);
  });
}

const EXAMPLES = `
Examples:
  (umask 077; selvage token create > join)
  selvage token create --address registry.example:8286 --address 203.0.113.5:8286
  selvage token create --scope api --description monitoring
  selvage token list
`;

/** Adds `token` with its subcommands to the program. */
export function addToken(program: Command, context: CommandContext): void {
  const token = program.command("token")
    .description("make, show and revoke the tokens of the registry on this host")
    .addHelpText("afterAll", EXAMPLES);
  addCreate(token, context);
  addList(token, context);
  addRevoke(token, context);
}
