// The kernel tab. Not written yet.
import { notice, put } from "./dom.js";

export const mount = (root) => put(root, notice("This tab is being built.", "running"));
export const unmount = () => {};
