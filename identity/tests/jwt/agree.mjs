// Signs tokens with the package `jose`, for `interop.rs`: claims as JSON on standard input, what
// `interop.rs` calls `Theirs` on standard output.

import { readFileSync } from "node:fs";
import { SignJWT, exportJWK, generateKeyPair, generateSecret } from "jose";

const claims = JSON.parse(readFileSync(0, "utf8"));

function sign(key, header) {
  return new SignJWT(claims).setProtectedHeader(header).sign(key);
}

const keys = [];
const tokens = [];
for (const [alg, options] of [["EdDSA", { crv: "Ed25519" }], ["ES256", {}], ["RS256", { modulusLength: 2048 }]]) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { ...options, extractable: true });
  const kid = `theirs ${alg}`;
  keys.push({ ...(await exportJWK(publicKey)), kid, alg, use: "sig" });
  tokens.push(await sign(privateKey, { alg, kid, typ: "JWT" }), await sign(privateKey, { alg, kid }));
}
const secret = Buffer.from(await generateSecret("HS256", { extractable: true }).then(exportJWK).then(({ k }) => k));
const secretToken = await sign(secret, { alg: "HS256" });
process.stdout.write(
  JSON.stringify({ jwks: JSON.stringify({ keys }), tokens, secret: secret.toString(), secret_token: secretToken }),
);
