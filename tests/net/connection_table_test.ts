import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Connection, ConnectionTable, sourceOf } from "../../src/net/connection_table.ts";

describe("the table of connections", () => {
  const closed: string[] = [];

  /** A table, and a function that adds a connection by the name that it is closed under. */
  function newTable(limits: Partial<ConnectionTable["limits"]> = {}) {
    closed.length = 0;
    const table = new ConnectionTable({
      countMax: 6,
      unprovenCountMax: 4,
      unprovenPerSourceMax: 3,
      shedAgeMin_ms: 0,
      shedPerSecondMax: 10,
      ...limits,
    });
    let now_ms = 0;
    const add = (name: string): Connection | null => {
      return table.add(name.split(" ")[0]!, now_ms++, () => closed.push(name));
    };
    return { table, add, later: (ms: number) => now_ms += ms };
  }

  test("closes the oldest stranger of a source that has too many", () => {
    const { table, add } = newTable();
    for (const name of ["a 1", "b 1", "a 2", "a 3", "a 4"]) add(name);
    assert.deepEqual(closed, ["a 1"]);
    assert.equal(table.count, 4);
  });

  test("closes a stranger of the source with the most for one of another source", () => {
    const { add } = newTable();
    for (const name of ["b 1", "a 1", "a 2", "a 3", "c 1"]) add(name);
    assert.deepEqual(closed, ["a 1"]);
  });

  test("closes strangers first, then who is idle for longest, and nobody at work", () => {
    const { table, add } = newTable();
    const proven = ["a 1", "a 2", "a 3", "a 4", "a 5"].map((name) => {
      const connection = add(name)!;
      table.prove(connection);
      return connection;
    });
    add("b 1");
    table.setActivity(proven[1]!, "idle", 50);
    table.setActivity(proven[3]!, "idle", 40);
    for (const index of [0, 2, 4]) table.setActivity(proven[index]!, "request", 30);
    const newcomers = ["c 1", "c 2", "c 3"].map((name) => {
      const connection = add(name)!;
      table.prove(connection);
      table.setActivity(connection, "request", 60);
      return connection;
    });
    assert.deepEqual(closed, ["b 1", "a 4", "a 2"]);
    assert.equal(add("d 1"), null);
    assert.deepEqual([table.shedCount, table.refusedCount], [3, 1]);
    table.delete(newcomers[0]!);
    table.delete(newcomers[0]!);
    assert.ok(add("d 2"));
  });

  test("refuses a newcomer while all of its source may still be shaking hands", () => {
    const { table, add, later } = newTable({ shedAgeMin_ms: 100 });
    for (const name of ["a 1", "a 2", "a 3"]) add(name);
    assert.equal(add("a 4"), null);
    later(100);
    assert.ok(add("a 5"));
    assert.deepEqual(closed, ["a 1"]);
    assert.deepEqual([table.shedCount, table.refusedCount], [1, 1]);
  });

  test("makes room for one source a bounded number of times in a second", () => {
    const { table, add, later } = newTable({ unprovenPerSourceMax: 1, shedPerSecondMax: 2 });
    for (let i = 0; i < 10; i++) add(`a ${i}`);
    assert.deepEqual([table.shedCount, table.refusedCount], [2, 7]);
    assert.ok(add("b 0"), "others are not held up by that");
    later(1_000);
    assert.ok(add("a 10"));
  });

  test("takes addresses that one host commonly has for one source", () => {
    const rows: [string, string][] = [
      ["192.0.2.1", "192.0.2.1"],
      ["::ffff:192.0.2.1", "192.0.2.1"],
      ["127.8.0.1", "loopback"],
      ["::ffff:127.0.0.1", "loopback"],
      ["::1", "loopback"],
      ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"],
      ["2001:db8:1:2::6", "2001:db8:1:2::"],
      ["2001:db8::6", "2001:db8:0:0::"],
      ["fe80::1%eth0", "fe80:0:0:0::"],
      ["", ""],
    ];
    for (const [address, source] of rows) assert.equal(sourceOf(address), source, address);
  });
});
