/** What a node's status and readiness are drawn from, for tests of them. */
import type { SnapshotParts } from "../../src/agent/snapshot.ts";

/** Of a node that waits for its store. */
export const WAITING: SnapshotParts = {
  started_ms: 1000,
  phase: "waiting_for_store",
  waitingFor: "the registry cannot be reached",
  waitingSince_ms: 900,
  link: null,
  config: null,
  lease: null,
  expiry_ms: null,
  renewal_ms: null,
  lostSince_ms: null,
  path: null,
  linkProblem: null,
  rivalProblem: null,
  addressProblem: null,
  partedProblem: null,
  configProblem: null,
  stateProblems: [],
  hostProblems: [],
  notices: [],
  peers: [],
  store: null,
  listeners: [],
  registry: null,
};
