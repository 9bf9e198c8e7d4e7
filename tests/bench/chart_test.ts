import assert from "node:assert/strict";
import { test } from "node:test";
import { drawChart, escapeXml } from "./chart.ts";
import { samplePath, sampleReport } from "./sample.ts";

interface Rect {
  readonly kind: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
}

function rects(svg: string): Rect[] {
  const pattern = /<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"/g;
  return [...svg.matchAll(pattern)].map(([, kind, x, y, width]) => {
    return { kind: kind!, x: Number(x), y: Number(y), width: Number(width) };
  });
}

test("a bar for each path that has the measure, as long as its ratio", () => {
  const bars = rects(drawChart(sampleReport()));
  // One stream of TCP, then latency; the other measures have no values.
  assert.deepEqual(bars.map(({ kind }) => kind), ["reference", "own", "reference", "own"]);
  const ratio = (i: number) => bars[i + 1]!.width / bars[i]!.width;
  assert.ok(Math.abs(ratio(0) - 0.7) < 0.01, `ratio ${ratio(0)}`);
  assert.ok(Math.abs(ratio(2) - 1.5) < 0.01, `ratio ${ratio(2)}`);
});

test("the labels say ratio and value", () => {
  const svg = drawChart(sampleReport());
  assert.ok(/>0\.70×<\/text>\n<text[^>]*>7\.00<\/text>/.test(svg), svg);
  assert.ok(svg.includes(">TCP, 1 stream, Gbit/s: more is better</text>"), svg);
  assert.ok(svg.includes(">latency p50, µs: less is better</text>"), svg);
});

test("everything is inside the picture, and a bar off the scale is cut and marked", () => {
  const { paths } = sampleReport();
  const slow = samplePath("slow", { latencyP50: [40_000], tcp1: [0.001] });
  const svg = drawChart(sampleReport({ paths: [...paths, slow] }));
  const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)!.map(Number);
  for (const bar of rects(svg)) {
    assert.ok(bar.x >= 0 && bar.x + bar.width <= width!, JSON.stringify(bar));
    assert.ok(bar.y >= 0 && bar.y <= height!, JSON.stringify(bar));
    assert.ok(bar.width >= 1, JSON.stringify(bar));
  }
  assert.ok(svg.includes(">→ 1000.00×"), svg);
});

test("each element is closed, and no title can break out of its text", () => {
  const evil = samplePath("evil", { tcp1: [1] }, '<script>&"');
  const svg = drawChart(sampleReport({ paths: [...sampleReport().paths, evil] }));
  assert.ok(svg.includes(">&lt;script&gt;&amp;&quot;</text>"), svg);
  assert.ok(!svg.includes("<script"), svg);
  for (const name of ["svg", "text", "title", "style"]) {
    const opened = svg.match(new RegExp(`<${name}[ >]`, "g"))?.length;
    assert.equal(svg.match(new RegExp(`</${name}>`, "g"))?.length, opened, name);
  }
});

test("escaping", () => {
  assert.equal(escapeXml(`a<b>&"c"`), "a&lt;b&gt;&amp;&quot;c&quot;");
});
