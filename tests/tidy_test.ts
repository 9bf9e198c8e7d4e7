/** The house rules that a machine can hold. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const COLUMNS_MAX = 100;
const FUNCTION_LINES_MAX = 70;
/** Modules that nothing imports because something else starts them. */
const ENTRY_POINTS =
  /^(compile\.ts|src\/main\.ts|src\/dataplane\/worker\.ts|wasm\/main\.ts|tests\/run\.ts|tests\/bench\/run\.ts|tests\/.*_(test|child|worker)\.ts)$/;

/** What must not be used, where, and what to use in its place. */
const BANNED: readonly [pattern: RegExp, place: RegExp, instead: string][] = [
  [/["']bun:ffi["']/, /^(?!ffi\/|tests\/tidy_test)/, "the functions of ffi/"],
  [/\bDeno\.dlopen\b/, /^(?!ffi\/|tests\/tidy_test)/, "the functions of ffi/"],
  [/\b(Deno|Bun)\.\w/, /^src\//, "node:* modules, which both runtimes have"],
  [/\bnode:child_process\b/, /^src\/(?!demo\/)/, "netlink: the daemon runs no programs"],
  [/console\.(log|error|warn|info|debug)\(/, /^(src|ffi)\//, "the logger, or the streams"],
  [/: any\b|<any>|as any\b/, /^(src|ffi|compile)/, "a type, or unknown and a check"],
  [/\b(TODO|FIXME|XXX)\b/, /^(?!tests\/tidy_test)/, "an issue"],
  [/\bsrc\//, /^ffi\/.*\.ts$/, "nothing of src/: ffi/ stands below it"],
];

function* filesOf(directory: string): Generator<string> {
  for (const entry of readdirSync(join(ROOT, directory), { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      if (!["node_modules", "dist", "build", ".git"].includes(entry.name)) yield* filesOf(path);
    } else if (entry.name.endsWith(".ts")) {
      yield path;
    }
  }
}

const FILES = [...filesOf(".")].map((path) => ({
  path: relative(".", path),
  text: readFileSync(join(ROOT, path), "utf8"),
}));

function offences(find: (file: { path: string; text: string }) => string[]): string[] {
  return FILES.flatMap((file) => find(file).map((what) => `${file.path}:${what}`));
}

test("the tree was found", () => {
  assert.ok(
    FILES.some((file) => file.path === "src/main.ts"),
    "src/main.ts is not among the files",
  );
});

test("nothing banned is used", () => {
  const found = offences(({ path, text }) =>
    BANNED.filter(([, place]) => place.test(path)).flatMap(([pattern, , instead]) =>
      text.split("\n").flatMap((line, i) => {
        const code = line.replace(/^\s*(\/?\*|\/\/).*$/, "");
        return pattern.test(code) ? [`${i + 1}: ${line.trim()} (use ${instead})`] : [];
      })
    )
  );
  assert.deepEqual(found, []);
});

test(`no line is longer than ${COLUMNS_MAX} columns`, () => {
  const found = offences(({ text }) =>
    text.split("\n").flatMap((line, i) => [...line].length > COLUMNS_MAX ? [`${i + 1}`] : [])
  );
  assert.deepEqual(found, []);
});

test(`no function is longer than ${FUNCTION_LINES_MAX} lines`, () => {
  const start =
    /^(\s*)(?:export |static |async |private |override |get |set )*(?:function\*?\b|(?:\*|#)?[\w#]+(?:<[^>]*>)?\()/;
  const found = offences(({ path, text }) => {
    if (path.startsWith("tests/")) return [];
    const lines = text.split("\n");
    return lines.flatMap((line, i) => {
      const indent = start.exec(line)?.[1];
      if (indent === undefined || indent.length > 2) return [];
      const end = lines.findIndex((other, j) => j > i && other.startsWith(`${indent}}`));
      const isBody = lines.slice(i, i + 12).some((other) => other.trimEnd().endsWith("{"));
      return isBody && end - i >= FUNCTION_LINES_MAX ? [`${i + 1}: ${end - i + 1} lines`] : [];
    });
  });
  assert.deepEqual(found, []);
});

test("every module is imported by another", () => {
  const imported = new Set(
    FILES.flatMap(({ path, text }) =>
      [...text.matchAll(/(?:from|import\(|import)\s*["'](\.{1,2}\/[^"']+)["']/g)].map((match) => {
        const target = match[1]!.endsWith(".ts") ? match[1]! : `${match[1]}.ts`;
        return join(dirname(path), target);
      })
    ),
  );
  const lonely = FILES.map((file) => file.path)
    .filter((path) => !imported.has(path) && !ENTRY_POINTS.test(path) && !path.endsWith(".d.ts"));
  assert.deepEqual(lonely, []);
});

test("dependencies are exact, and all of them are used", () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as {
    imports: Record<string, string>;
  };
  const used = FILES.map((file) => file.text).join("\n");
  for (const [name, target] of Object.entries(manifest.imports)) {
    if (target.startsWith("npm:")) assert.match(target, /@\d+\.\d+\.\d+$/, `${name} is not exact`);
    assert.ok(used.includes(name), `${name} is not used`);
  }
});
