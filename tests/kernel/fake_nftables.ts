/**
 * nftables in memory, behind a scripted netlink socket. What it is sent in a transaction it stores
 * as it is once the transaction ends, and gives back when asked.
 */
import { Attributes, PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import { type NetlinkMessage, NLM_F_MULTI } from "../../src/netlink/message.ts";
import { NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END } from "../../src/netlink/nftables/batch.ts";
import {
  NFGENMSG_SIZE,
  NFT_MSG_DELTABLE,
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETGEN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWTABLE,
} from "../../src/netlink/nftables/layout.ts";
import {
  acknowledge,
  datagram,
  done,
  type Incoming,
  reply,
  ScriptedSocket,
} from "../netlink/scripted_socket.ts";

const ENOENT = 2;
const AF_INET6 = 10;

interface FakeTable {
  readonly chains: Map<string, Uint8Array>;
  readonly rules: Uint8Array[];
}

/** The name of the table that a message is about: attribute 1 in all of them. */
function tableNameOf({ payload }: NetlinkMessage): string {
  return Attributes.parse(payload.subarray(NFGENMSG_SIZE), "test").text(1) ?? "";
}

/** The family's tables are told apart by the first byte of a message. */
const familyOf = ({ payload }: NetlinkMessage): 4 | 6 => payload[0] === AF_INET6 ? 6 : 4;

export class FakeNftables {
  readonly socket: ScriptedSocket = new ScriptedSocket((message) => this.#answer(message));
  /** Our tables `selvage` by family; of other names it has none. */
  tables: Map<4 | 6, FakeTable> = new Map();
  generation = 1;
  /** Transactions that were committed. */
  commitCount = 0;
  /** What to answer in place of the right answer; null: nothing. */
  intervene: (message: NetlinkMessage) => Incoming[] | null = () => null;
  /** The errno to refuse a message of a transaction with, 0 to let it. */
  refuse: (message: NetlinkMessage) => number = () => 0;
  /** Called after each transaction. */
  afterCommit: () => void = () => {};
  #open: NetlinkMessage[] = [];

  /** A new connection to it, whose pauses take no time. */
  connect(): NetlinkConnection {
    return new NetlinkConnection(this.socket, () => {});
  }

  #answer(message: NetlinkMessage): Incoming[] {
    const instead = this.intervene(message);
    if (instead !== null) return instead;
    const isOurs = tableNameOf(message) === "selvage";
    const table = isOurs ? this.tables.get(familyOf(message)) : undefined;
    switch (message.type) {
      case NFNL_MSG_BATCH_BEGIN:
        this.#open = [];
        return [];
      case NFNL_MSG_BATCH_END:
        return this.#commit();
      case NFT_MSG_GETGEN: {
        const payload = new PayloadWriter().u32(0).attributeU32be(1, this.generation).finish();
        return [datagram(reply(message, NFT_MSG_NEWGEN, payload)), acknowledge(message)];
      }
      case NFT_MSG_GETTABLE: {
        if (table === undefined) return [acknowledge(message, ENOENT)];
        const writer = new PayloadWriter().u8(message.payload[0]!).u8(0).u16(0);
        writer.attributeText(1, "selvage").attributeU32be(3, table.chains.size);
        return [datagram(reply(message, NFT_MSG_NEWTABLE, writer.finish())), acknowledge(message)];
      }
      case NFT_MSG_GETCHAIN: {
        const name = Attributes.parse(message.payload.subarray(NFGENMSG_SIZE), "test").text(3)!;
        const chain = table?.chains.get(name);
        if (chain === undefined) return [acknowledge(message, ENOENT)];
        return [datagram(reply(message, NFT_MSG_NEWCHAIN, chain)), acknowledge(message)];
      }
      case NFT_MSG_GETRULE: {
        const rules = (table?.rules ?? [])
          .map((payload) => datagram(reply(message, NFT_MSG_NEWRULE, payload, NLM_F_MULTI)));
        return [...rules, done(message)];
      }
    }
    this.#open.push(message);
    return [];
  }

  #commit(): Incoming[] {
    const errors = this.#open.map((message) => this.refuse(message));
    const next = new Map<4 | 6, FakeTable>();
    for (const [family, { chains, rules }] of this.tables) {
      next.set(family, { chains: new Map(chains), rules: [...rules] });
    }
    for (const [i, message] of this.#open.entries()) errors[i] ||= this.#apply(message, next);
    if (errors.every((errno) => errno === 0)) {
      this.tables = next;
      this.generation += 1;
      this.commitCount += 1;
      this.afterCommit();
    }
    return this.#open.map((message, i) => acknowledge(message, errors[i]));
  }

  #apply(message: NetlinkMessage, tables: Map<4 | 6, FakeTable>): number {
    const family = familyOf(message);
    const table = tables.get(family);
    const attributes = Attributes.parse(message.payload.subarray(NFGENMSG_SIZE), "test");
    switch (message.type) {
      case NFT_MSG_NEWTABLE:
        if (table === undefined) tables.set(family, { chains: new Map(), rules: [] });
        return 0;
      case NFT_MSG_DELTABLE:
        return tables.delete(family) ? 0 : ENOENT;
      case NFT_MSG_NEWCHAIN:
        table!.chains.set(attributes.text(3)!, message.payload);
        return 0;
      case NFT_MSG_NEWRULE:
        table!.rules.push(message.payload);
        return 0;
    }
    throw new Error(`the fake nftables knows no message ${message.type}`);
  }
}
