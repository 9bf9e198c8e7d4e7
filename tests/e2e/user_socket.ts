/**
 * What users of a host, and programs in a container, send by a UDP socket with options that need no
 * rights: from an address that is not theirs, many datagrams as one packet, or with a mark.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import type { IpAddress } from "../../src/net/ip.ts";

const TIMEOUT_MS = 20_000;
/** A user without rights. */
export const NOBODY = "65534";

/** `linux/in.h`, `linux/in6.h`, `linux/udp.h`, `asm-generic/socket.h`. What is refused is tried. */
const PROGRAM = `use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
my ($family, $from, $to, $port, $segment, $mark) = @ARGV;
my $data = do { local $/; <STDIN> };
my $isV6 = $family == 6;
my $domain = $isV6 ? AF_INET6 : AF_INET;
my $name = sub {
  my ($address, $port) = @_;
  my $bytes = inet_pton($domain, $address);
  $isV6 ? pack_sockaddr_in6($port, $bytes) : pack_sockaddr_in($port, $bytes);
};
socket(my $socket, $domain, SOCK_DGRAM, 0) or die "socket: $!";
my ($IPPROTO_IP, $IP_FREEBIND, $IPPROTO_IPV6, $IPV6_FREEBIND) = (0, 15, 41, 78);
if ($from) {
  my ($level, $option) = $isV6 ? ($IPPROTO_IPV6, $IPV6_FREEBIND) : ($IPPROTO_IP, $IP_FREEBIND);
  setsockopt($socket, $level, $option, pack("i", 1)) or die "freebind: $!";
  bind($socket, $name->($from, 0)) or die "bind: $!";
}
my ($IPPROTO_UDP, $UDP_SEGMENT, $SOL_SOCKET, $SO_MARK) = (17, 103, 1, 36);
if ($segment) {
  setsockopt($socket, $IPPROTO_UDP, $UDP_SEGMENT, pack("i", $segment)) or die "segment: $!";
}
if ($mark) { setsockopt($socket, $SOL_SOCKET, $SO_MARK, pack("i", $mark)) }
send($socket, $data, 0, $name->($to, $port)) or $!{EPERM} or die "send: $!";
`;

export interface UserDatagram {
  readonly to: IpAddress;
  readonly port: number;
  readonly data: Uint8Array;
  /** Left out: the kernel chooses. */
  readonly from?: IpAddress;
  /** `data` is cut into datagrams of so many bytes, which the kernel sees as one packet. */
  readonly segment_bytes?: number;
  readonly mark?: number;
}

/** Sends it by a program that `words` start, such as `AS_USER`. The guard may refuse it. */
export function sendByProgram(
  netns: Netns,
  words: readonly string[],
  { to, port, data, from, segment_bytes, mark }: UserDatagram,
): void {
  const options = [String(from ?? ""), String(to), port, segment_bytes ?? 0, mark ?? 0].map(String);
  const [command, ...args] = [...words, "perl", "-e", PROGRAM, String(to.family), ...options];
  const { status, stderr } = withNetns(
    netns,
    () => spawnSync(command!, args, { input: data, encoding: "utf8", timeout: TIMEOUT_MS }),
  );
  assert.equal(status, 0, stderr);
}

export const AS_USER: readonly string[] = ["setpriv", `--reuid=${NOBODY}`, "--clear-groups"];
/** As root of a user namespace of its own, in the network of the host. */
export const AS_ROOT_OF_NAMESPACE: readonly string[] = [...AS_USER, "unshare", "-Ur"];
