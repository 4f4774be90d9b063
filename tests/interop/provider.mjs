// Starts node-oidc-provider on 127.0.0.1: `node provider.mjs '{"port": ..., "clients": [...], "features": {...}, "post": true}'`.
// Prints one JSON line when it listens, and one per event of a back-channel logout. Any user name and password are accepted.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const { port, clients, features = {}, post = false, account = {}, ...more } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const say = (event, details) => console.log(JSON.stringify({ event, ...details }));

const provider = new Provider(issuer, {
  clients,
  claims: { openid: ['sub', 'sid'], email: ['email'] },
  cookies: {
    keys: ['interop'],
    ...(post && { long: { httpOnly: true, sameSite: 'none' } }), // what enableHttpPostMethods asks for
  },
  enableHttpPostMethods: post,
  features: {
    backchannelLogout: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    ...features,
  },
  // The provider refuses to call loopback addresses through its own dispatcher; the applications here live on one.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub, email: `${sub}@example.com`, ...account }) }),
  ...more,
});

provider.on('backchannel.success', (ctx, client, accountId, sid) => say('backchannel.success', { client: client.clientId, sid }));
provider.on('backchannel.error', (ctx, error, client) => say('backchannel.error', { client: client.clientId, error: String(error) }));
provider.on('server_error', (ctx, error) => say('server_error', { error: String(error?.stack ?? error) }));

// SameSite=None needs Secure, which the provider leaves out over http; browsers take it from a loopback address.
const secured = (line) => (/samesite=none/.test(line) && !/; secure/.test(line) ? `${line}; secure` : line);
provider.use(async (ctx, next) => {
  await next();
  const lines = ctx.response.get('set-cookie');
  if (lines) ctx.set('set-cookie', [lines].flat().map(secured));
});

createServer(provider.callback()).listen(port, '127.0.0.1', () => say('ready', { issuer }));
