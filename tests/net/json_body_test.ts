import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Hono } from "hono";
import { z } from "zod";
import { jsonBody } from "../../src/net/json_body.ts";
import { problemResponse } from "../../src/net/problem.ts";

const app = new Hono()
  .put("/", jsonBody(z.record(z.string(), z.unknown())), (context) => context.json({}));
app.onError((error) => problemResponse(error));

async function put(body: string): Promise<[status: number, detail: string | undefined]> {
  const headers = { "content-type": "application/json" };
  const response = await app.request("/", { method: "PUT", headers, body });
  const { detail } = await response.json() as { detail?: string };
  return [response.status, detail];
}

describe("a body with a value that would be lost is refused", () => {
  const cases: readonly [body: string, detail: string][] = [
    ['{"SubnetLen":1e999}', "body: SubnetLen: the number is out of range"],
    ['{"Backend":{"Port":-1e999}}', "body: Backend: Port: the number is out of range"],
    ['{"__proto__":{"Network":"10.0.0.0/8"}}', 'body: "__proto__" is not allowed as a key'],
    ['{"a":[{"__proto__":1}]}', 'body: a: 0: "__proto__" is not allowed as a key'],
  ];
  for (const [body, detail] of cases) {
    test(body, async () => assert.deepEqual(await put(body), [400, detail]));
  }

  test("others are not", async () => {
    assert.deepEqual(await put('{"a":[1e300,-0,null],"b":"__proto__"}'), [200, undefined]);
  });
});
