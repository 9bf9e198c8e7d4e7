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
/** `_IOR('T', 207, unsigned int)` */
const TUNGETFEATURES = 0x800454cf;
const IFF_TUN = 0x0001;
const IFF_MULTI_QUEUE = 0x0100;
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

/** `TUNSETIFF`; the result is negative for an error, errno then says which. */
function setInterface(fd: number, name: string, flags: number): number {
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(cString(name));
  new DataView(request.buffer).setUint16(IFNAMSIZ, IFF_TUN | IFF_NO_PI | flags, true);
  return libc.ioctl(fd, TUNSETIFF, request);
}

/** Makes the device; false if the kernel has no virtio headers. */
function attach(fd: number, name: string, isVnet: boolean, isMultiQueue: boolean): boolean {
  const flags = (isVnet ? IFF_VNET_HDR : 0) | (isMultiQueue ? IFF_MULTI_QUEUE : 0);
  const result = setInterface(fd, name, flags | IFF_TUN_EXCL);
  if (result < 0 && isVnet && lastErrno() === EINVAL) return false;
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

interface Wanted {
  readonly offloads: readonly TunOffload[];
  readonly isMultiQueue: boolean;
}

/** One attempt; null, and nothing left, if the kernel has none of the offloads. */
function tryOpen(name: string, { offloads: wanted, isMultiQueue }: Wanted): OpenTun | null {
  const fd = openFd(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  try {
    const isVnet = wanted.length > 0;
    const offloads = attach(fd, name, isVnet, isMultiQueue) && isVnet ? negotiate(fd, wanted) : [];
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
 * far as the kernel has them; with `isMultiQueue`, `addTunQueue` may add to it. The device exists
 * for as long as a descriptor of it, which the caller owns. Throws `SystemError`: `ENOENT` where
 * the kernel has no TUN, `EPERM` without CAP_NET_ADMIN, `EBUSY` if a device has this name.
 */
export function openTun(
  name: string,
  wanted: readonly TunOffload[] = [],
  isMultiQueue = false,
): OpenTun {
  if (cString(name).length > IFNAMSIZ) {
    throw new RangeError(`device name ${name}: at most 15 bytes`);
  }
  const needed = wanted.length > 0 ? new Set<TunOffload>(["csum", ...wanted]) : new Set();
  const offloads = ORDER.filter((one) => needed.has(one));
  const tun = tryOpen(name, { offloads, isMultiQueue }) ??
    tryOpen(name, { offloads: [], isMultiQueue });
  if (tun === null) throw new SystemError(`make TUN device ${name}`, EINVAL);
  return tun;
}

/**
 * One queue more of a device that is open with `isMultiQueue`, with the offloads it has; the kernel
 * keeps each flow on one queue. The caller owns the descriptor. Throws `SystemError`: `E2BIG` if
 * there are too many, `EINVAL` if the device is not of many queues.
 */
export function addTunQueue(name: string, offloads: readonly TunOffload[]): number {
  const fd = openFd(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  try {
    const flags = IFF_MULTI_QUEUE | (offloads.length > 0 ? IFF_VNET_HDR : 0);
    check(setInterface(fd, name, flags), `add a queue to TUN device ${name}`);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** What the kernel's TUN devices can do. */
export interface TunFeatures {
  readonly isMultiQueue: boolean;
  /** Packets may come and go behind a virtio header, which every offload needs. */
  readonly hasVirtioHeader: boolean;
}

/** Asks without making a device. Throws `SystemError`: `ENOENT`, `ENXIO`, `EACCES`, `EPERM`. */
export function readTunFeatures(): TunFeatures {
  const fd = openFd(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  try {
    const value = int32Option(0);
    check(libc.ioctl(fd, TUNGETFEATURES, value), `ask ${TUN_PATH} for its features`);
    const flags = new DataView(value.buffer).getUint32(0, true);
    return {
      isMultiQueue: (flags & IFF_MULTI_QUEUE) !== 0,
      hasVirtioHeader: (flags & IFF_VNET_HDR) !== 0,
    };
  } finally {
    closeFd(fd);
  }
}
