/**
 * The system calls, imported from module "sys". Offsets are into the shared memory; each returns
 * the call's result or -errno. Buffers are borrowed for the call.
 */

export declare function read(fd: i32, offset: i32, size: i32): i32;
export declare function write(fd: i32, offset: i32, size: i32): i32;
export declare function writev(fd: i32, iovecs_offset: i32, count: i32): i32;
export declare function recvmmsg(fd: i32, vector_offset: i32, count: i32, flags: i32): i32;
export declare function sendmmsg(fd: i32, vector_offset: i32, count: i32, flags: i32): i32;
export declare function poll(fds_offset: i32, count: i32, timeout_ms: i32): i32;
/** Milliseconds since 1970. */
export declare function now_ms(): f64;
/**
 * Bytes of the largest IP packet that the path to an address carries, as the kernel knows it; the
 * address is a `sockaddr_in` or `sockaddr_in6`.
 */
export declare function path_mtu(name_offset: i32, size: i32): i32;
