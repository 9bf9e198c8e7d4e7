/** A worker that never says anything. */
setInterval(() => {}, 1_000);
