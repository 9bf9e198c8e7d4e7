/** The password of etcd's user, in a file. */
import { SelvageError } from "../errors.ts";
import { readFileBounded } from "../files.ts";

/** A password is short; of another file nothing is to be sent anywhere. */
const SIZE_MAX_BYTES = 4096;

/** Its first line. Throws `invalid_argument` if that is empty, and what reading the file throws. */
export function readPasswordFile(path: string): string {
  const password = readFileBounded(path, SIZE_MAX_BYTES).split(/\r?\n/, 1)[0]!;
  if (password !== "") return password;
  throw new SelvageError("invalid_argument", `--etcd-password-file ${path}: empty`);
}
