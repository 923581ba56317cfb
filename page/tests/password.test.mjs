// Signing in to the page with an account of a Supabase project, in a real browser.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, show } from "./browser.mjs";
import { Daemon, until } from "./daemon.mjs";
import { ACCOUNT, startGotrue } from "./gotrue.mjs";

let gotrue;
let daemon;
let browser;

before(async () => {
  gotrue = await startGotrue();
  daemon = await Daemon.start({ env: gotrue.env });
  browser = await launch();
}, { timeout: 90_000 });

after(async () => {
  await browser?.close();
  await daemon?.stop();
  gotrue?.stop();
});

async function signIn(tab, password = ACCOUNT.password) {
  await tab.page.getByLabel("E-mail address").fill(ACCOUNT.email);
  await tab.page.getByLabel("Password").fill(password);
  await tab.page.getByRole("button", { name: "Sign in" }).click();
}

for (const scheme of ["light", "dark"]) {
  test(`an account signs in, in ${scheme}, after a wrong password has been told`, async () => {
    const tab = await open(browser, daemon, { scheme });
    await tab.page.goto(`${daemon.url}/#/users`);
    await tab.page.getByLabel("E-mail address").waitFor();
    assert.deepEqual(await tab.axe(), []);
    await signIn(tab, "wrong");
    await tab.page.getByRole("alert").getByText("do not match").waitFor();
    assert.deepEqual(await tab.axe(), []);
    await signIn(tab);
    await tab.page.getByRole("heading", { name: "Users" }).waitFor();
    await tab.page.getByText("user:0b1f9a52").waitFor();
    assert.equal(await tab.page.evaluate(() => document.cookie), "", "no script reads a token");
    const ended = gotrue.signedOut;
    await tab.page.getByRole("button", { name: "Sign out" }).click();
    await tab.page.getByLabel("E-mail address").waitFor();
    assert.equal(gotrue.signedOut, ended + 1);
    assert.equal((await tab.context.cookies()).length, 0);
    assert.deepEqual(tab.problems, []);
    await tab.context.close();
  });
}

test("a token signs in there, too", async () => {
  const tab = await open(browser, daemon);
  await tab.page.goto(`${daemon.url}/`);
  await tab.page.getByRole("button", { name: "Use a token instead" }).click();
  await tab.page.getByLabel("Token").fill(await daemon.token("read"));
  await tab.page.keyboard.press("Enter");
  await tab.page.getByText("(read only)").waitFor();
  assert.deepEqual(tab.problems, []);
  await tab.context.close();
});

test("an access token that ends is renewed unseen, also on a page that is loaded anew, until the project ends the session", async () => {
  const tab = await open(browser, daemon);
  // The browser reports a request that is refused once.
  tab.expected.push("401");
  await tab.page.goto(`${daemon.url}/`);
  gotrue.lifeS = 1;
  await signIn(tab);
  await show(tab, daemon, "pipeline");
  const before = gotrue.renewals;
  await until("the session is renewed", () => gotrue.renewals > before);
  assert.deepEqual((await tab.context.cookies()).map((one) => one.name), ["tallyd_session"], "no token lies in the browser");
  await tab.page.reload();
  await tab.page.getByRole("navigation", { name: "Views" }).waitFor();
  await tab.page.getByText("Write-ahead log").first().waitFor();
  assert.equal(await tab.page.getByText("Your session has ended").count(), 0);
  tab.expected.push("503");
  gotrue.down = true;
  await tab.page.getByText("Supabase Auth did not sign anybody in").first().waitFor();
  await tab.page.getByText("Write-ahead log").first().waitFor();
  gotrue.end();
  gotrue.down = false;
  await tab.page.getByText("Your session has ended").waitFor();
  assert.deepEqual(tab.problems, []);
  await tab.context.close();
});
