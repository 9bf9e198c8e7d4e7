/** What a stream has brought and nobody has read yet: bounded, by letting the server wait. */
import type { RawStream } from "./connection.ts";
import { Status, StatusError } from "./status.ts";

/** gRPC has as many more in a queue of its own, and HTTP/2 a window. */
const MESSAGES_MAX = 16;

type Message = Buffer<ArrayBufferLike>;

export class MessageQueue {
  readonly #messages: Message[] = [];
  #error: StatusError | null = null;
  #wake: (() => void) | null = null;

  constructor(private readonly stream: RawStream) {
    const { call } = stream;
    call.on("data", (message: Message) => {
      this.#messages.push(message);
      if (this.#messages.length >= MESSAGES_MAX) call.pause();
      this.#wake?.();
    });
    call.on("error", (error: Error & { code?: number; details?: string }) => {
      const code = typeof error.code === "number" ? error.code : Status.UNAVAILABLE;
      this.#end(new StatusError(code, error.details ?? error.message));
    });
    call.on("end", () => this.#end(new StatusError(Status.UNAVAILABLE, "the stream was ended")));
  }

  #end(error: StatusError): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /**
   * The next message; null if none comes within `timeout_ms`. Throws `StatusError` where the stream
   * has ended.
   */
  async next(timeout_ms: number): Promise<Message | null> {
    if (this.#messages.length === 0 && this.#error === null) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeout_ms);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
    const message = this.#messages.shift();
    if (this.#messages.length === 0) this.stream.call.resume();
    if (message !== undefined) return message;
    if (this.#error !== null) throw this.#error;
    return null;
  }

  /** Ends the stream on both sides. */
  close(): void {
    this.#end(new StatusError(Status.CANCELLED, "cancelled"));
    this.stream.call.cancel();
    this.#messages.length = 0;
    // Whatever still comes is thrown away.
    this.stream.call.resume();
  }
}
