// Requests to the lab's own server, with the session's token; every failure is an ApiError that says what to do next.

const token = document.querySelector("meta[name=token]")?.content ?? "";

/** What went wrong with a request: `message`, `hint` (or null) and the HTTP `status` (0 when there was no answer). */
export class ApiError extends Error {
  constructor(message, hint = null, status = 0) {
    super(message);
    this.name = "ApiError";
    this.hint = hint;
    this.status = status;
  }
}

const request = async (path, options) => {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(
      "The lab's server does not answer.",
      "Look at the terminal in which convscope lab runs; start it again if it has ended. This page goes on by itself.",
    );
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const hint = answer.status === 403 ? "Reload this page: the lab was probably started again since it was opened." : null;
  throw new ApiError(
    said?.error?.message ?? `The lab's server answered ${answer.status} ${answer.statusText}.`,
    said?.error?.hint ?? hint,
    answer.status,
  );
};

/** GET, answered with JSON. `signal` (an AbortSignal) gives the request up. */
export const get = async (path, { signal } = {}) => (await request(path, { signal })).json();

const posted = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json", "X-Convscope-Token": token },
  body: JSON.stringify(body),
  signal,
});

/** POST of JSON, answered with JSON. */
export const post = async (path, body = {}, { signal } = {}) => (await request(path, posted(body, signal))).json();

/** POST of JSON, answered with a file. */
export const postForFile = async (path, body = {}) => (await request(path, posted(body))).blob();

/** Offers a file to be saved. */
export const saveFile = (blob, name) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

/** The path of a run's part: `runPath("mnist-001", "kernels", "2.0")`. */
export const runPath = (run, ...parts) =>
  ["/api/runs", run, ...parts].map((part, place) => (place ? encodeURIComponent(part) : part)).join("/");

/** An array of numbers as the server sends it ({shape, low, high, data: base64 of little-endian float32}) with `values`, a Float32Array. */
export const decoded = (array) => {
  const bytes = Uint8Array.from(atob(array.data), (letter) => letter.charCodeAt(0));
  return { ...array, values: new Float32Array(bytes.buffer) };
};
