// Starts the real binary on a free port and an empty folder. `CAIRN_BIN` names it.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

function freePort() {
  return new Promise((resolve, reject) => {
    const free = createServer();
    free.once("error", reject);
    free.listen(0, "127.0.0.1", () => {
      const { port } = free.address();
      free.close(() => resolve(port));
    });
  });
}

export async function start() {
  const binary = process.env.CAIRN_BIN ?? join(import.meta.dirname, "../../target/release/cairn");
  const folder = await mkdtemp(join(tmpdir(), "cairn-js-"));
  const url = `http://127.0.0.1:${await freePort()}`;
  const port = new URL(url).port;
  const args = ["serve", "--host", "127.0.0.1", "--port", port, "--data-dir", join(folder, "data")];
  const server = spawn(binary, args, { stdio: "ignore" });
  for (let tries = 0; ; tries++) {
    const ready = await fetch(`${url}/readyz`).catch(() => undefined);
    if (ready?.ok) break;
    if (tries > 600 || server.exitCode !== null) throw new Error(`${binary} does not serve`);
    await new Promise((wait) => setTimeout(wait, 50));
  }
  const stop = async () => {
    const ended = new Promise((resolve) => server.once("exit", resolve));
    server.kill();
    await ended;
    await rm(folder, { recursive: true });
  };
  return { url, stop };
}
