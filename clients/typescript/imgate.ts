/**
 * Calls imgate: signs requests, corrects its clock, makes the token a stock OpenIM SDK carries.
 *
 * Needs WebCrypto and fetch, nothing else: browsers (in a secure context), Node 20, Deno, Bun. Copy this file, then:
 *
 *     const session = { id: login.session_id, secret: fromBase64(login.secret), platform: 5 };
 *     const client = new Client("https://im.example.com", session);
 *     const answer = await client.post("/friend/get_friend_id", { userID: "u1" });
 *     openimSDK.login({ userID: "u1", token: await client.sessionToken(), ... });
 */

const CLOCK_SKEW = 20103;
const TIMEOUT = 10_000; // milliseconds
const TOKEN_LIFE = 12 * 3600; // seconds; the gateway takes at most a day, and clocks differ

/** What the login gave us. `secret` is 32 bytes and never leaves the device. */
export interface Session {
  id: string;
  secret: BufferSource;
  platform: number;
}

/** An HTTP answer; `body` is OpenIM's envelope. Act on `errCode`: OpenIM sends errors with status 200. */
export interface Answer {
  status: number;
  errCode: number | undefined;
  body: any;
  serverTime: number | undefined;
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const toBase64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
const toBase64Url = (bytes: Uint8Array) =>
  toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

export const fromBase64 = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

/** HKDF-SHA256 (RFC 5869) without salt; gives 32 bytes. */
export async function deriveKey(secret: BufferSource, info: string): Promise<ArrayBuffer> {
  const key = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info: utf8(info) };
  return crypto.subtle.deriveBits(how, key, 256);
}

async function mac(session: Session, purpose: string, text: string): Promise<Uint8Array> {
  const bytes = await deriveKey(session.secret, purpose);
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(text)));
}

/**
 * The headers that sign a request (RFC 9421). Send it to `url.href`: those are the bytes that are signed.
 *
 * `body` is undefined when there is none: what has no bytes has no digest.
 */
export async function signatureHeaders(
  session: Session, method: string, url: URL, body: BufferSource | undefined, created: number, nonce: string,
): Promise<Record<string, string>> {
  // A URL has its host in lower case and no default port already, which is how it is signed.
  const lines = [["@method", method], ["@authority", url.host], ["@path", url.pathname], ["@query", url.search || "?"]];
  const headers: Record<string, string> = {};
  if (body !== undefined) {
    const digest = toBase64(new Uint8Array(await crypto.subtle.digest("SHA-256", body)));
    headers["Content-Digest"] = `sha-256=:${digest}:`;
    lines.push(["content-digest", headers["Content-Digest"]]);
  }
  const covered = lines.map(([name]) => `"${name}"`).join(" ");
  const params = `(${covered});created=${created};nonce="${nonce}";alg="hmac-sha256";keyid="${session.id}";tag="imgate"`;
  const base = lines.map(([name, value]) => `"${name}": ${value}\n`).join("") + `"@signature-params": ${params}`;
  headers["Signature-Input"] = `sig=${params}`;
  headers["Signature"] = `sig=:${toBase64(await mac(session, "imgate/v1/http", base))}:`;
  return headers;
}

/** What an OpenIM SDK takes as its token. Whoever has it is the user until then: treat it as a secret. */
export async function sessionToken(session: Session, expires: number): Promise<string> {
  const signed = `ig1.${session.id}.${expires}.${session.platform}`;
  return `${signed}.${toBase64Url(await mac(session, "imgate/v1/sdk", signed))}`;
}

/** Speaks for one session to one gateway. */
export class Client {
  /** Seconds the gateway's clock is ahead of ours, as far as we know. */
  private offset = 0;

  constructor(
    private readonly baseUrl: string,
    private readonly session: Session,
    private readonly clock: () => number = () => Math.floor(Date.now() / 1000),
  ) {}

  now(): number {
    return this.clock() + this.offset;
  }

  sessionToken(life = TOKEN_LIFE): Promise<string> {
    return sessionToken(this.session, this.now() + life);
  }

  /**
   * Sends a signed POST. Only a refused clock is tried again, once: such a request was not acted on.
   *
   * After a timeout nobody knows whether it was: ask, or send again what may happen twice.
   */
  async post(path: string, value: unknown): Promise<Answer> {
    const url = new URL(this.baseUrl + path);
    const body = utf8(JSON.stringify(value));
    const answer = await this.send(url, body);
    if (answer.errCode !== CLOCK_SKEW || answer.serverTime === undefined) return answer;
    this.offset = answer.serverTime - this.clock();
    return this.send(url, body);
  }

  private async send(url: URL, body: BufferSource): Promise<Answer> {
    // Each attempt is signed anew: a nonce is good once.
    const nonce = toBase64Url(crypto.getRandomValues(new Uint8Array(16)));
    const signature = await signatureHeaders(this.session, "POST", url, body, this.now(), nonce);
    const headers = { "Content-Type": "application/json", ...signature };
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT);
    try {
      return await answerOf(await fetch(url.href, { method: "POST", headers, body, signal: abort.signal }));
    } finally {
      clearTimeout(timer);
    }
  }
}

async function answerOf(response: Response): Promise<Answer> {
  // What is no JSON is not from imgate: a proxy on the way, perhaps.
  const body = await response.json().catch(() => ({}));
  const serverTime = response.headers.get("X-Server-Time");
  return { status: response.status, errCode: body.errCode, body, serverTime: serverTime ? Number(serverTime) : undefined };
}
