// A stand-in for Supabase Auth: one admin, tokens that are signed with a shared secret.
import { createHmac } from "node:crypto";
import { createServer } from "node:http";

const SECRET = "a secret of these tests, which protects nothing";
const KEY = "sb_publishable_page";
export const ACCOUNT = { email: "ada@example.com", password: "correct horse" };

function sign(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

/** `lifeS`: seconds until an access token expires, according to the answer to the browser. */
export async function startGotrue({ lifeS = 3600 } = {}) {
  const gotrue = { lifeS, renewals: 0, signedOut: 0, down: false };
  let refresh = null;
  /** Ends every session. */
  gotrue.end = () => { refresh = null; };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const piece of request) text += piece;
    const body = text ? JSON.parse(text) : {};
    const send = (status, answer) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    if (gotrue.down) return send(500, { code: 500, error_code: "unexpected_failure" });
    if (request.headers.apikey !== KEY) return send(401, { message: "Invalid API key" });
    const { pathname, searchParams } = new URL(request.url, gotrue.url);
    if (pathname.endsWith("/logout")) {
      gotrue.signedOut += 1;
      refresh = null;
      return response.writeHead(204).end();
    }
    const kind = searchParams.get("grant_type");
    if (kind === "password" && (body.email !== ACCOUNT.email || body.password !== ACCOUNT.password)) {
      return send(400, { code: 400, error_code: "invalid_credentials", msg: "Invalid login credentials" });
    }
    if (kind === "refresh_token") {
      if (refresh === null || body.refresh_token !== refresh) return send(400, { code: 400, error_code: "refresh_token_not_found", msg: "Not Found" });
      gotrue.renewals += 1;
    }
    refresh = `r-${gotrue.renewals}-${kind}`;
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: gotrue.url, aud: "authenticated", sub: "0b1f9a52-6a0c-4a53-9d6e-2f1f6f1f0c11", iat: now, exp: now + 3600, app_metadata: { role: "admin" } };
    send(200, { access_token: sign(claims), token_type: "bearer", expires_in: gotrue.lifeS, refresh_token: refresh, user: {} });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  gotrue.url = `http://127.0.0.1:${server.address().port}/auth/v1`;
  gotrue.env = { TALLYD_AUTH_ISSUER: gotrue.url, TALLYD_AUTH_HS256_SECRET: SECRET, TALLYD_AUTH_PUBLISHABLE_KEY: KEY };
  gotrue.stop = () => { server.closeAllConnections(); server.close(); };
  return gotrue;
}
