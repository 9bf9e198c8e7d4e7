/**
 * Makes the TypeScript of etcd's messages from `src/etcd/client/rpc.proto`, which is committed:
 * only who changes the one needs to make the other anew. The compiler and its plugin come from npm
 * for this alone.
 *
 *     deno task proto
 */
import { spawnSync } from "node:child_process";

const PROTO_DIR = "src/etcd/client";
const OUTPUT = `${PROTO_DIR}/generated`;
const PACKAGES = ["@bufbuild/buf-linux-x64@1.75.0", "@bufbuild/protoc-gen-es@2.17.0"];

const template = {
  version: "v2",
  plugins: [{ local: "protoc-gen-es", out: OUTPUT, opt: ["target=ts", "import_extension=ts"] }],
};
// The package of the compiler has it at a path, and not as a command.
const compiler = '"$(dirname "$(command -v protoc-gen-es)")/../@bufbuild/buf-linux-x64/bin/buf"';
const run = spawnSync("npx", [
  "--yes",
  ...PACKAGES.flatMap((name) => ["--package", name]),
  "--call",
  `${compiler} generate ${PROTO_DIR} --template '${JSON.stringify(template)}'`,
], { stdio: "inherit" });
if (run.status !== 0) console.error("generate: the compiler failed, or npm could not get it");
process.exit(run.status ?? 1);
