/** The password of etcd's user, in a file. */
import { SelvageError } from "../errors.ts";
import { readFileBounded } from "../files.ts";

/** A password is short; of another file nothing is to be sent anywhere. */
const SIZE_MAX_BYTES = 4096;

/** How files with other secrets begin: such a secret must not be sent to etcd as a password. */
const OTHER_SECRETS: readonly (readonly [start: RegExp, name: string])[] = [
  [/^selvage[1-9][0-9]*\./, "a join string"],
  [/^-----BEGIN /, "a certificate or key (PEM)"],
  [/^\{"format":"selvage registry backup"/, "a backup of a registry"],
];

/**
 * Its first line. Throws `invalid_argument` if that is empty or begins another kind of secret, and
 * what reading the file throws. No error quotes the file.
 */
export function readPasswordFile(path: string): string {
  const password = readFileBounded(path, SIZE_MAX_BYTES).split(/\r?\n/, 1)[0]!;
  if (password === "") {
    throw new SelvageError("invalid_argument", `--etcd-password-file ${path}: empty`);
  }
  const [, other] = OTHER_SECRETS.find(([start]) => start.test(password)) ?? [];
  if (other === undefined) return password;
  throw new SelvageError(
    "invalid_argument",
    `--etcd-password-file ${path}: it holds ${other}, not a password`,
    { hint: "Name the file whose first line is the password of etcd's user." },
  );
}
