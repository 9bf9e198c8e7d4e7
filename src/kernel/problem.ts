/** What is not as desired and why. */

export interface PeerProblem {
  /** The one peer that it concerns, by its lease key; null: all. */
  readonly peerKey: string | null;
  /** One sentence. */
  readonly text: string;
}

export interface ReconcileResult {
  /** Changes the kernel took; 0 when everything was as desired. */
  readonly changeCount: number;
  /** What is not as desired for all, one sentence each; empty when everything is. */
  readonly problems: readonly string[];
}
