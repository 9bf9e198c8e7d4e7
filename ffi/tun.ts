/** TUN devices (`linux/if_tun.h`, `Documentation/networking/tuntap.rst`). */
import { errnoNumber, SystemError } from "./errno.ts";
import { closeFd, openFd } from "./fd.ts";
import { binding, check, cString, lastErrno, libc, LIBRARY } from "./libc.ts";
import { int32Option } from "./socket_address.ts";
import { NUMBER_IOCTL } from "./symbols.ts";

const TUN_PATH = "/dev/net/tun";
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
/** `_IOW('T', 202, int)`, and the others alike. */
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** Fail if the device exists already: a name is never taken over. */
const IFF_TUN_EXCL = 0x8000;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;
/** `struct virtio_net_hdr` without the count of buffers. */
const VNET_HEADER_BYTES = 10;
const EINVAL = errnoNumber("EINVAL");

/**
 * What the kernel may leave to whoever reads the TUN: checksums, cutting TCP (TSO), cutting UDP
 * (USO, since Linux 6.2); and take from whoever writes. The later need the first.
 */
export type TunOffload = "csum" | "tso" | "uso";

/** `TUN_F_…`; TSO is of both families and with ECN. */
const OFFLOAD_FLAGS: Readonly<Record<TunOffload, number>> = {
  csum: 0x01,
  tso: 0x02 | 0x04 | 0x08,
  uso: 0x20 | 0x40,
};
/** What is given up first is last. */
const ORDER: readonly TunOffload[] = ["csum", "tso", "uso"];

const numberIoctl = binding.load(LIBRARY, NUMBER_IOCTL).ioctl;

export interface OpenTun {
  readonly fd: number;
  /** Those that are active. If any, each packet comes and goes behind a virtio header. */
  readonly offloads: readonly TunOffload[];
}

/** Makes the device; false if the kernel has no virtio headers. */
function attach(fd: number, name: string, hasVnetHeader: boolean): boolean {
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(cString(name));
  const flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL | (hasVnetHeader ? IFF_VNET_HDR : 0);
  new DataView(request.buffer).setUint16(IFNAMSIZ, flags, true);
  const result = libc.ioctl(fd, TUNSETIFF, request);
  if (result < 0 && hasVnetHeader && lastErrno() === EINVAL) return false;
  check(result, `make TUN device ${name}`);
  return true;
}

/** Switches on as many of the wanted offloads as the kernel takes, from the front. */
function negotiate(fd: number, wanted: readonly TunOffload[]): readonly TunOffload[] {
  check(libc.ioctl(fd, TUNSETVNETHDRSZ, int32Option(VNET_HEADER_BYTES)), "set the virtio header");
  for (let count = wanted.length; count > 0; count--) {
    const offloads = wanted.slice(0, count);
    const flags = offloads.reduce((bits, one) => bits | OFFLOAD_FLAGS[one], 0);
    if (numberIoctl(fd, TUNSETOFFLOAD, flags) >= 0) return offloads;
    if (lastErrno() !== EINVAL) throw new SystemError("set offloads of a TUN", lastErrno());
  }
  return [];
}

/** One attempt; null, and nothing left, if the kernel has none of the offloads. */
function tryOpen(name: string, wanted: readonly TunOffload[]): OpenTun | null {
  const fd = openFd(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  try {
    const isVnet = wanted.length > 0;
    const offloads = attach(fd, name, isVnet) && isVnet ? negotiate(fd, wanted) : [];
    if (!isVnet || offloads.length > 0) return { fd, offloads };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  closeFd(fd);
  return null;
}

/**
 * Makes a TUN device without packet information header, non-blocking, with the wanted offloads as
 * far as the kernel has them. The device exists for as long as the descriptor, which the caller
 * owns. Throws `SystemError`: `ENOENT` where the kernel has no TUN, `EPERM` without CAP_NET_ADMIN,
 * `EBUSY` if a device has this name.
 */
export function openTun(name: string, wanted: readonly TunOffload[] = []): OpenTun {
  if (cString(name).length > IFNAMSIZ) {
    throw new RangeError(`device name ${name}: at most 15 bytes`);
  }
  const needed = wanted.length > 0 ? new Set<TunOffload>(["csum", ...wanted]) : new Set();
  const tun = tryOpen(name, ORDER.filter((one) => needed.has(one))) ?? tryOpen(name, []);
  if (tun === null) throw new SystemError(`make TUN device ${name}`, EINVAL);
  return tun;
}
