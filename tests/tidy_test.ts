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
const ENTRY_POINTS = new RegExp(
  "^((compile|generate).ts|src/main.ts|src/dataplane/worker.ts|wasm/main.ts|tests/run.ts|" +
    "tests/(bench|fuzz)/run.ts|tests/.*_(test|child|worker).ts)$",
);

/** What must not be used, where, and what to use in its place. */
const BANNED: readonly [pattern: RegExp, place: RegExp, instead: string][] = [
  [/["']bun:ffi["']/, /^(?!ffi\/|tests\/tidy_test)/, "the functions of ffi/"],
  [/\bDeno\.dlopen\b/, /^(?!ffi\/|tests\/tidy_test)/, "the functions of ffi/"],
  [/\b(Deno|Bun)\.\w/, /^src\//, "node:* modules, which both runtimes have"],
  [
    /\bnode:child_process\b/,
    // Of the daemon this file alone: it runs what the user names for backend `extension`.
    /^src\/(?!demo\/|agent\/shell_command\.ts$)/,
    "netlink: the daemon runs no programs of its own accord",
  ],
  [/console\.(log|error|warn|info|debug)\(/, /^(src|ffi)\//, "the logger, or the streams"],
  [/: any\b|<any>|as any\b/, /^(src|ffi\/(?!bun_ffi)|compile)/, "a type, or unknown and a check"],
  [/\bsrc\//, /^ffi\/.*\.ts$/, "nothing of src/: ffi/ stands below it"],
];

/** What each part of `src/` may import of the others: data flows one way. */
const LAYERS: Readonly<Record<string, string[]>> = {
  net: [],
  config: ["net"],
  lease: ["net", "config"],
  store: ["net", "config", "lease"],
  registry: ["net", "config", "lease", "store"],
  etcd: ["net", "config", "lease", "store/store", "store/closed_error", "store/expiry"],
  netlink: ["net"],
  kernel: ["net", "netlink"],
  backend: ["net", "config", "lease", "kernel"],
  dataplane: ["net", "backend"],
  // The shapes of what is shown are the agent's; the API brings them to the outside.
  api: ["net", "config", "lease", "store", "agent/status"],
  agent: [
    "net",
    "config",
    "lease",
    "store",
    "registry",
    "etcd",
    "netlink",
    "kernel",
    "backend",
    "dataplane",
    "api",
  ],
  check: [
    "net",
    "config",
    "lease/allocator",
    "lease/lease",
    "netlink",
    "kernel",
    "backend",
    "agent/kept_outer_link",
    "agent/network",
    "agent/options",
    "agent/preflight",
    "agent/vital_addresses",
  ],
  clean: [
    "net",
    "lease/subnet_file",
    "netlink",
    "kernel/leftovers",
    "agent/namespace_claim",
    "agent/preflight",
    "check/ports",
  ],
  cli: [
    "net",
    "config",
    "lease",
    "api",
    "agent/status",
    "agent/options",
    "backend/config_split",
    "backend/select",
    "check/options",
    "check/report",
    "clean/report",
    "registry/backup",
    "registry/certificate",
    "registry/join_string",
    "store/registry_database",
    "etcd",
  ],
  demo: ["net", "netlink", "agent", "cli"],
};

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
  const written = FILES.filter(({ path }) => !path.includes("/generated/"));
  return written.flatMap((file) => find(file).map((what) => `${file.path}:${what}`));
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

test("every part imports only what stands before it in the flow", () => {
  const found = offences(({ path, text }) => {
    const [top, part] = path.split("/");
    const allowed = LAYERS[part ?? ""];
    if (top !== "src" || allowed === undefined) return [];
    return [...text.matchAll(/(?:from|import\()\s*"(\.{1,2}\/[^"]+)\.ts"/g)].flatMap((match) => {
      const [, other, ...rest] = join(dirname(path), match[1]!).split("/");
      const target = [other, ...rest].join("/");
      const isCommon = rest.length === 0 || other === part || !LAYERS[other ?? ""];
      const isAllowed = allowed.some((one) => target === one || target.startsWith(`${one}/`));
      return isCommon || isAllowed ? [] : [` imports ${target}`];
    });
  });
  assert.deepEqual(found, []);
});

test("every part of src/ has its place in the flow", () => {
  const parts = new Set(FILES.flatMap(({ path }) => /^src\/([^/]+)\//.exec(path)?.[1] ?? []));
  assert.deepEqual([...parts].sort(), Object.keys(LAYERS).sort());
});

test("nothing is left to do", () => {
  const found = offences(({ path, text }) =>
    path === "tests/tidy_test.ts"
      ? []
      : text.split("\n").flatMap((line, i) =>
        /\b(TODO|FIXME|XXX)\b/.test(line) ? [`${i + 1}: ${line.trim()}`] : []
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
  const start = new RegExp(
    "^(\\s*)(?:export |static |async |private |override |get |set )*" +
      "(?:function\\*?\\b|\\*?[\\w#]+(?:<[^>]*>)?\\()",
  );
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
  const text = FILES.map((file) => file.text).join("\n");
  const isUsed = (name: string) =>
    new RegExp(`["'](npm:)?${name}(/[^"']*)?["']`).test(text) ||
    text.includes(`node_modules/${name}/`);
  for (const [name, target] of Object.entries(manifest.imports)) {
    if (target.startsWith("npm:")) assert.match(target, /@\d+\.\d+\.\d+$/, `${name} is not exact`);
    assert.ok(isUsed(name), `${name} is not used`);
  }
});
