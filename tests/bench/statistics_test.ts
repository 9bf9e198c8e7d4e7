import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatNumber, median, percentile, relativeSpread, rotate } from "./statistics.ts";

test("the median is the middle value, or the mean of the two in the middle", () => {
  assert.equal(median([]), null);
  assert.equal(median([3]), 3);
  assert.equal(median([10, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([10, 9]), 9.5);
});

test("values are sorted as numbers, and the caller's order stays", () => {
  const values = [100, 9, 20];
  assert.equal(median(values), 20);
  assert.deepEqual(values, [100, 9, 20]);
});

test("a percentile is the nearest rank", () => {
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.equal(percentile([], 0.5), null);
  assert.equal(percentile([7], 0.99), 7);
  assert.equal(percentile(hundred, 0.5), 50);
  assert.equal(percentile(hundred, 0.99), 99);
  assert.equal(percentile(hundred, 1), 100);
  assert.equal(percentile(hundred, 0), 1);
});

test("a percentile is the smallest value that its share of all does not exceed", () => {
  const values = fc.array(fc.integer(), { minLength: 1 });
  const share = fc.double({ min: 0.01, max: 1, noNaN: true });
  fc.assert(fc.property(values, share, (list, part) => {
    const found = percentile(list, part)!;
    assert.ok(list.filter((value) => value <= found).length >= part * list.length);
    assert.ok(list.filter((value) => value < found).length < part * list.length);
  }));
});

test("the spread is half the range over the median", () => {
  assert.equal(relativeSpread([9, 10, 12]), 0.15);
  assert.equal(relativeSpread([5]), 0);
  assert.equal(relativeSpread([]), null);
  assert.equal(relativeSpread([0, 0]), null);
});

test("rotation keeps the order and moves the beginning", () => {
  assert.deepEqual(rotate([1, 2, 3], 0), [1, 2, 3]);
  assert.deepEqual(rotate([1, 2, 3], 1), [2, 3, 1]);
  assert.deepEqual(rotate([1, 2, 3], 5), [3, 1, 2]);
  assert.deepEqual(rotate([], 4), []);
});

test("numbers have three significant digits or are whole", () => {
  assert.deepEqual([0.01234, 1.234, 12.34, 123.4, 12345.6].map(formatNumber), [
    "0.012",
    "1.23",
    "12.3",
    "123",
    "12346",
  ]);
  assert.equal(formatNumber(null), "–");
  assert.equal(formatNumber(Infinity), "–");
});
