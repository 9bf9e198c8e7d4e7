/** Selvage's own backends. */
export const OWN_BACKEND_NAMES = ["alloc", "extension", "host-gw", "ipip", "udp", "vxlan"] as const;

/**
 * The backends that a reservation may name, as leases write them: also those of flannel that
 * Selvage lacks. A network whose leases are in etcd may have hosts with flanneld, and a subnet may
 * be reserved for one of these.
 */
export const BACKEND_NAMES = [
  ...OWN_BACKEND_NAMES,
  "ali-vpc",
  "aws-vpc",
  "gce",
  "ipsec",
  "tencent-vpc",
  "wireguard",
] as const;
