import { test } from "node:test";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as layout from "../../wasm/layout.ts";
import { PREFIX_TABLE_SIZE } from "../../wasm/prefix_layout.ts";
import { instantiateLoops } from "../../src/dataplane/loops.ts";
import { createMemory } from "../../src/dataplane/memory.ts";
import { bound, ScriptedIo } from "./scripted_io.ts";

const MODULE = readFileSync(new URL("../../wasm/build/loops.wasm", import.meta.url));

/** Ids of the sections of a module (WebAssembly core specification, section 5.5.2). */
function sectionIds(module: Uint8Array): number[] {
  const ids: number[] = [];
  for (let at = 8; at < module.length;) {
    ids.push(module[at++]!);
    let size_bytes = 0;
    for (let shift = 0;; shift += 7) {
      const byte = module[at++]!;
      size_bytes += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    at += size_bytes;
  }
  return ids;
}

test("the module has no data and no start function: two workers may instantiate it", () => {
  const START = 8, DATA = 11;
  const ids = sectionIds(MODULE);
  assert.ok(ids.includes(10), "the parser found the code section");
  assert.ok(!ids.includes(START) && !ids.includes(DATA), `sections ${ids}`);
});

test("the module imports the memory and the system calls, and nothing else", async () => {
  const module = await WebAssembly.compile(MODULE);
  const names = WebAssembly.Module.imports(module).map(({ module, name }) => `${module}.${name}`);
  const calls = ["now_ms", "path_mtu", "poll", "read", "recvmmsg", "sendmmsg", "write", "writev"];
  assert.deepEqual(names.sort(), ["env.memory", ...calls.map((name) => `sys.${name}`)]);
});

test("instantiating checks the layout and leaves the memory as it is", async () => {
  const shared = createMemory();
  const marks = [layout.STATIC_DATA_END - 4096, layout.CONTROL_OFFSET + 512, layout.PEERS4_OFFSET];
  for (const at of marks) shared.bytes.fill(0xa5, at, at + 256);
  const loops = await instantiateLoops(shared.memory, bound(new ScriptedIo(shared)));
  assert.equal(loops.layoutHash(), layout.LAYOUT_HASH);
  for (const at of marks) {
    assert.ok(shared.bytes.slice(at, at + 256).every((byte) => byte === 0xa5), `at ${at}`);
  }
});

test("the parts of the layout follow each other, aligned, and end with the memory", () => {
  const parts: [name: string, offset: number, size: number][] = [
    ["control", layout.CONTROL_OFFSET, layout.CACHE_LINE_SIZE],
    ["lanes", layout.LANES_OFFSET, layout.LANE_COUNT_MAX * layout.LANE_SIZE],
    ["level 1", layout.FIB_LEVEL1_OFFSET, layout.FIB_LEVEL1_COUNT * 4],
    ["level 2", layout.FIB_LEVEL2_OFFSET, layout.FIB_BLOCK_COUNT_MAX * layout.FIB_BLOCK_SIZE],
    ["peers, IPv4", layout.PEERS4_OFFSET, layout.PEER_COUNT_MAX * layout.PEER_SIZE],
    ["peers, IPv6", layout.PEERS6_OFFSET, layout.PEER_COUNT_MAX * layout.PEER_SIZE],
    ["sources A", layout.SOURCE_TABLE_A_OFFSET, layout.SOURCE_TABLE_SIZE],
    ["sources B", layout.SOURCE_TABLE_B_OFFSET, layout.SOURCE_TABLE_SIZE],
    ["destinations, IPv6", layout.DESTINATIONS6_OFFSET, PREFIX_TABLE_SIZE],
    ["sources, IPv6", layout.SOURCES6_OFFSET, PREFIX_TABLE_SIZE],
    ["egress work", layout.EGRESS_WORK_OFFSET, layout.EGRESS_WORK_SIZE],
    ["ingress work", layout.INGRESS_WORK_OFFSET, layout.INGRESS_WORK_SIZE],
  ];
  let end = layout.STATIC_DATA_END;
  for (const [name, offset, size_bytes] of parts) {
    assert.ok(offset >= end, `${name} overlaps with what is before it`);
    assert.equal(offset % layout.CACHE_LINE_SIZE, 0, `${name} is not aligned`);
    end = offset + size_bytes;
  }
  assert.equal(end, layout.EGRESS_WORK_OFFSET + layout.LANE_WORK_STRIDE);
  assert.equal(layout.LANE_WORK_STRIDE % layout.CACHE_LINE_SIZE, 0, "lanes are not aligned");
  end += (layout.LANE_COUNT_MAX - 1) * layout.LANE_WORK_STRIDE;
  assert.equal(end, layout.MEMORY_END);
  const lane = layout.LANE_INGRESS_COUNTERS_OFFSET + layout.COUNTERS_SIZE;
  assert.ok(lane <= layout.LANE_SIZE);
  assert.ok(layout.MEMORY_PAGES * layout.WASM_PAGE_SIZE >= end);
  assert.ok(layout.MEMORY_PAGES * layout.WASM_PAGE_SIZE - end < layout.WASM_PAGE_SIZE);
  assert.ok(layout.DROP_END <= layout.COUNTER_COUNT);
});
