/** TUN devices (`linux/if_tun.h`, `Documentation/networking/tuntap.rst`). */
import { closeFd, openFd } from "./fd.ts";
import { check, cString, libc } from "./libc.ts";

const TUN_PATH = "/dev/net/tun";
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
/** `_IOW('T', 202, int)` */
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
/** Fail if the device exists already: a name is never taken over. */
const IFF_TUN_EXCL = 0x8000;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

/**
 * Makes a TUN device without packet information header, non-blocking. The device exists for as
 * long as the descriptor, which the caller owns. Throws `SystemError`: `ENOENT` where the kernel
 * has no TUN, `EPERM` without CAP_NET_ADMIN, `EBUSY` if a device has this name.
 */
export function openTun(name: string): number {
  const nameBytes = cString(name);
  if (nameBytes.length > IFNAMSIZ) throw new RangeError(`device name ${name}: at most 15 bytes`);
  const fd = openFd(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  try {
    const request = new Uint8Array(IFREQ_BYTES);
    request.set(nameBytes);
    const flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL;
    new DataView(request.buffer).setUint16(IFNAMSIZ, flags, true);
    check(libc.ioctl(fd, TUNSETIFF, request), `make TUN device ${name}`);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
