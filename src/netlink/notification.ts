/**
 * Multicast groups of NETLINK_ROUTE (`linux/rtnetlink.h`, enum rtnetlink_groups), and messages that
 * come as notifications alone.
 */
export const RTNLGRP_LINK = 1;
export const RTNLGRP_NEIGH = 3;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;
export const RTNLGRP_IPV4_NETCONF = 24;
export const RTNLGRP_IPV6_NETCONF = 25;
export const RTNLGRP_NEXTHOP = 32;

/** Forwarding and the like were changed. */
export const RTM_NEWNETCONF = 80;
export const RTM_DELNETCONF = 81;
