/** What is not as desired and why. */

export interface PeerProblem {
  /** The one peer that it concerns, by its lease key; null: all. */
  readonly peerKey: string | null;
  /** One sentence. */
  readonly text: string;
}
