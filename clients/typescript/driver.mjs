// Puts `imgate.ts`, compiled, to the test: reads a job per line, writes a result per line (see ../README.md).
// Its one argument is the compiled module.

import { createInterface } from "node:readline";
import { webcrypto } from "node:crypto";
import { pathToFileURL } from "node:url";

// Node 18 hides it behind a flag.
globalThis.crypto ??= webcrypto;
const { Client, deriveKey, fromBase64, sessionToken, signatureHeaders } = await import(pathToFileURL(process.argv[2]));

const jobs = {
  async key(secret, info) {
    return Buffer.from(await deriveKey(fromBase64(secret), info)).toString("hex");
  },
  async sign(secret, id, method, url, body, created, nonce) {
    const session = { id, secret: fromBase64(secret), platform: 1 };
    const bytes = body === "-" ? undefined : fromBase64(body);
    const headers = await signatureHeaders(session, method, new URL(url), bytes, Number(created), nonce);
    return [headers["Content-Digest"] ?? "-", headers["Signature-Input"], headers["Signature"]].join("\t");
  },
  token(secret, id, expires, platform) {
    return sessionToken({ id, secret: fromBase64(secret), platform: Number(platform) }, Number(expires));
  },
  /** Posts twice by a clock that is behind, then makes a token by it. */
  async post(baseUrl, secret, id, platform, behind, path, value) {
    const session = { id, secret: fromBase64(secret), platform: Number(platform) };
    const client = new Client(baseUrl, session, () => Math.floor(Date.now() / 1000) - Number(behind));
    const results = [];
    for (let i = 0; i < 2; i++) {
      const answer = await client.post(path, JSON.parse(value)).catch(() => undefined);
      results.push(answer ? `${answer.status} ${answer.errCode}` : "error");
    }
    return [...results, await client.sessionToken()].join("\t");
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...fields] = line.split("\t");
  console.log(await jobs[name](...fields));
}
