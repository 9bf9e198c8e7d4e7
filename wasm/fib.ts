/**
 * Look-up of the peer by inner destination: DIR-24-8, constant in time. One access for subnets of
 * /24 and shorter, two for longer ones. The control side writes; see `src/dataplane/fib.ts`.
 *
 * The loads are plain ones, several times as fast as atomic ones; `epoch.ts` says why they do.
 */
import { FIB_BLOCK_BIT, FIB_BLOCK_SIZE, FIB_LEVEL1_OFFSET, FIB_LEVEL2_OFFSET } from "./layout.ts";

/** The slot of the peer whose subnet holds the address, or -1. */
export function lookupPeer(address: u32): i32 {
  const entry = load<u32>(FIB_LEVEL1_OFFSET + (<i32> (address >> 8) << 2));
  if (entry >> FIB_BLOCK_BIT === 0) return <i32> entry - 1;
  const block = <i32> (entry ^ (1 << FIB_BLOCK_BIT));
  const inBlock = <i32> (address & 0xff) << 2;
  return <i32> load<u32>(FIB_LEVEL2_OFFSET + block * FIB_BLOCK_SIZE + inBlock) - 1;
}
