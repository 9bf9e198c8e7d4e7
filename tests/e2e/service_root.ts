/**
 * A root file system to try the shipped systemd unit in: the machine's own, under an overlay that
 * vanishes with the test, with the executable, the unit and the join string in their places. It is
 * entered by systemd as PID 1, or by the daemon alone in a sandbox that follows the unit.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { spawnInNetns } from "../../src/demo/child.ts";
import { EXECUTABLE, type Lab } from "./lab.ts";

export const UNIT_FILE = resolve("docs/selvage.service");
const START_TIMEOUT_MS = 60_000;

/** The values of one name in a section of a unit file; an empty one resets those before it. */
export function unitValues(section: string, name: string): string[] {
  let current = "";
  let values: string[] = [];
  for (const line of readFileSync(UNIT_FILE, "utf8").split("\n")) {
    current = /^\[(.+)\]$/.exec(line)?.[1] ?? current;
    const value = line.startsWith(`${name}=`) ? line.slice(name.length + 1).trim() : null;
    if (current !== section || value === null) continue;
    values = value === "" ? [] : [...values, ...value.split(/\s+/)];
  }
  return values;
}

/** The last value of a name of the unit's [Service] section; empty if it is not there. */
export const serviceValue = (name: string): string => unitValues("Service", name).at(-1) ?? "";

/** Makes the root $R below the directory $T; needs a mount namespace of its own. */
const MAKE_ROOT = `
set -e
mount -t tmpfs -o mode=755 tmpfs "$T"
mkdir "$T/root" "$T/upper" "$T/work"
mount -t overlay -o lowerdir=/,upperdir="$T/upper",workdir="$T/work" overlay "$T/root"
R="$T/root"
mount -t proc proc "$R/proc"
mount --bind "$R/proc/sys" "$R/proc/sys"
mount --bind "$R/proc/sys/net" "$R/proc/sys/net"
mount -o remount,bind,ro "$R/proc/sys"
mount -t sysfs -o ro sysfs "$R/sys"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
while read -r name minor; do mknod -m 666 "$R/dev/$name" c $minor; done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
END
mkdir "$R/dev/net" "$R/dev/pts" "$R/dev/shm"
mknod -m 600 "$R/dev/net/tun" c 10 200
mount -t devpts -o newinstance,ptmxmode=666 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
for place in dev/shm run tmp; do mount -t tmpfs -o mode=755 tmpfs "$R/$place"; done
mkdir -p "$R/usr/local/bin" "$R/etc/selvage" "$R/var/lib"
install -m 755 "$EXECUTABLE" "$R/usr/local/bin/selvage"
install -m 600 "$JOIN_FILE" "$R/etc/selvage/join"
`;

/** Makes $R the root of this mount namespace. */
const ENTER_ROOT = `
cd "$R"
mkdir -p "$R/run/old"
pivot_root . run/old
umount -l /run/old
rmdir /run/old
`;

/**
 * The units of the machine that the trial needs. The others stay out: what they would start has no
 * place here, and differs from machine to machine.
 */
const SYSTEM_UNITS = "basic sysinit local-fs local-fs-pre multi-user sockets timers paths slices " +
  "swap network network-online network-pre shutdown umount final remote-fs emergency";

const BOOT_SYSTEMD = `${MAKE_ROOT}
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
L="$R/usr/lib/systemd"; [ -d "$L/system" ] || L="$R/lib/systemd"
mkdir "$T/units"
for unit in ${SYSTEM_UNITS}; do cp "$L/system/$unit.target" "$T/units"; done
cp "$L/system"/systemd-journald.service "$L/system"/systemd-journald*.socket "$T/units"
mkdir "$T/units/sysinit.target.wants" "$T/units/sockets.target.wants"
ln -s ../systemd-journald.service "$T/units/sysinit.target.wants"
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket "$T/units/sockets.target.wants"
mount --bind "$T/units" "$L/system"
mount -t tmpfs tmpfs "$L/system-generators"
mount -t tmpfs tmpfs "$R/etc/systemd"
mkdir "$R/etc/systemd/system"
install -m 644 "$UNIT_FILE" "$R/etc/systemd/system/selvage.service"
echo 5e17a9e05e17a9e05e17a9e05e17a9e0 > "$R/etc/machine-id"
${ENTER_ROOT}
SYSTEMD_OFFLINE=1 systemctl enable selvage.service
[ -x /usr/lib/systemd/systemd ] && init=/usr/lib/systemd/systemd || init=/lib/systemd/systemd
exec env -i container=selvage-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  setpriv --bounding-set=-sys_time,-sys_boot,-sys_module,-syslog \\
  "$init" --unit=multi-user.target --log-target=console --show-status=no
`;

/**
 * Starts systemd in a control group of its own and ends it when standard input ends, which it does
 * with the test, whatever becomes of that.
 */
const RUN_SYSTEMD = `
set -e
mount -t cgroup2 cgroup2 "$T"
group="$T$(sed -n 's/^0:://p' /proc/self/cgroup)/selvage-test-$$"
mkdir "$group"
sh -c 'echo $$ > "$0/cgroup.procs" && exec unshare --mount --pid --ipc --uts --cgroup --fork \\
  --kill-child sh -c "$BOOT"' "$group" </dev/null &
echo $!
cat >/dev/null
kill -KILL $! || true
wait $! || true
for try in 1 2 3 4 5 6 7 8 9 10; do
  find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && exit
  sleep 0.1
done
`;

const TRY_GROUNDS = `set -e
mount -t tmpfs tmpfs "$0"
mkdir "$0/root" "$0/upper" "$0/work" "$0/cgroup"
mount -t overlay -o lowerdir=/,upperdir="$0/upper",workdir="$0/work" overlay "$0/root"
mount -t cgroup2 cgroup2 "$0/cgroup"
group="$0/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/selvage-try-$$"
mkdir "$group" && rmdir "$group"`;

/** Why this machine cannot run systemd in a container; null: it can. */
export function whyNoSystemd(): string | null {
  const programs = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
  if (!programs.some((path) => existsSync(path))) return "systemd is not installed";
  const args = ["--mount", "--propagation", "private", "sh", "-c", TRY_GROUNDS, "/mnt"];
  const { status, stderr } = spawnSync("unshare", args, { encoding: "utf8", timeout: 20_000 });
  return status === 0 ? null : `no container root or control group can be made: ${stderr.trim()}`;
}

/** Starts a script in the network of a lab's host, in a mount namespace of its own. */
async function launch(lab: Lab, host: number, script: string, env: Record<string, string>) {
  const log = openSync(join(lab.hostDirectory(host), "log"), "a", 0o600);
  try {
    const ground = join(lab.hostDirectory(host), "ground");
    mkdirSync(ground);
    const args = ["--mount", "--propagation", "private", "sh", "-c", script];
    return spawnInNetns(lab.network(host).host, "unshare", args, ["pipe", "pipe", log], {
      T: ground,
      R: join(ground, "root"),
      EXECUTABLE: EXECUTABLE.command,
      JOIN_FILE: await lab.joinFile(),
      UNIT_FILE,
      ...env,
    });
  } finally {
    closeSync(log);
  }
}

/** A host of the lab that runs systemd, which runs the shipped unit from its boot on. */
export class SystemdHost {
  private constructor(
    readonly lab: Lab,
    readonly process: ChildProcess,
    /** Of its PID 1, as this process sees it. */
    readonly pid: number,
  ) {}

  /** Boots it, and waits until systemd answers. */
  static async boot(lab: Lab, host: number): Promise<SystemdHost> {
    const child = await launch(lab, host, RUN_SYSTEMD, { BOOT: BOOT_SYSTEMD });
    const ended = once(child, "exit").then(() => assert.fail(lab.log(host)));
    const [line] = await Promise.race([once(child.stdout!, "data"), ended]);
    const parent = Number(String(line));
    const end_ms = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < end_ms) {
      try {
        const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8");
        const running = new SystemdHost(lab, child, Number(children));
        const isUp = running.pid > 0 && running.run("systemctl", "is-system-running").status === 0;
        if (isUp) return running;
      } catch {
        // It has not got so far.
      }
      await setTimeout(50);
    }
    child.stdin!.end();
    throw new Error(`systemd does not come up:\n${lab.log(host)}`);
  }

  /** Runs a program inside, to its end. */
  run(...command: string[]) {
    const spaces = ["-m", "-p", "-n", "-i", "-u", "-C", "-r", "-w"];
    return spawnSync("nsenter", ["-t", String(this.pid), ...spaces, ...command], {
      encoding: "utf8",
      timeout: START_TIMEOUT_MS,
    });
  }

  /** Runs systemctl; throws with what it says and the unit's log unless it succeeds. */
  systemctl(...args: string[]): string {
    const { status, stdout, stderr } = this.run("systemctl", ...args);
    if (status === 0) return stdout.trim();
    throw new Error(`systemctl ${args.join(" ")}: ${stdout}${stderr}\n${this.journal()}`);
  }

  /** One property of the unit. */
  show(property: string): string {
    return this.systemctl("show", "selvage", "--value", "-p", property);
  }

  journal(): string {
    return this.run("journalctl", "-u", "selvage", "--no-pager", "-o", "cat").stdout;
  }

  /** A path inside as it is reached from here. */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`;
  }

  /** Runs a command of selvage against its daemon. */
  selvage(...args: string[]) {
    return this.run("/usr/local/bin/selvage", ...args);
  }

  async close(): Promise<void> {
    const gone = once(this.process, "exit");
    this.process.stdin!.end();
    await gone;
  }
}

/** What the unit's directives come to, for the daemon alone. */
const RUN_SANDBOXED = `${MAKE_ROOT}
for entry in $PLACES; do
  place="\${entry#*:}"
  mkdir -p "$R/$place"
  chmod "\${entry%%:*}" "$R/$place"
  mount --bind "$R/$place" "$R/$place"
done
[ "$PROTECT_HOME" = yes ] && for place in home root; do mount -t tmpfs tmpfs "$R/$place"; done
${ENTER_ROOT}
[ "$PROTECT_SYSTEM" = strict ] && mount -o remount,bind,ro / && mount -o remount,bind,ro /run
cd /
exec setpriv --no-new-privs --bounding-set="-all$CAPABILITIES" \\
  env -i PATH=/usr/bin SELVAGE_END_WITH_PARENT="$SELVAGE_END_WITH_PARENT" $COMMAND
`;

/**
 * Starts the unit's command without systemd: in a mount namespace that is read-only except for the
 * unit's own directories, each a mount of its own, and with the unit's capabilities. `command`: in
 * place of the unit's.
 */
export function startSandboxed(
  lab: Lab,
  host: number,
  command = unitValues("Service", "ExecStart").join(" "),
): Promise<ChildProcess> {
  const mode = (kind: "State" | "Runtime") => serviceValue(`${kind}DirectoryMode`) || "0755";
  const capabilities = unitValues("Service", "CapabilityBoundingSet")
    .map((name) => `,+${name.replace(/^CAP_/, "").toLowerCase()}`);
  return launch(lab, host, RUN_SANDBOXED, {
    PLACES: [
      ...unitValues("Service", "StateDirectory").map((name) => `${mode("State")}:var/lib/${name}`),
      ...unitValues("Service", "RuntimeDirectory").map((name) => `${mode("Runtime")}:run/${name}`),
    ].join(" "),
    PROTECT_HOME: serviceValue("ProtectHome"),
    PROTECT_SYSTEM: serviceValue("ProtectSystem"),
    CAPABILITIES: capabilities.join(""),
    COMMAND: command,
  });
}
