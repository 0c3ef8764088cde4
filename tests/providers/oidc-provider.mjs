// A strict OpenID provider (npm oidc-provider 9), in memory, on a free port of loopback.
// Argument: the redirect URI to register.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const redirectUri = process.argv[2];
const clientId = 'sallyport';
const clientSecret = 'oidc-provider-client-secret-7f3a';

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  // PKCE is demanded, as a strict operator would.
  pkce: { required: () => true },
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
  },
  // Claims of scopes in the ID token as well as at user-info.
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      email: `${id}@example.test`,
      email_verified: true,
      name: id,
      preferred_username: id,
    }),
  }),
  cookies: { keys: ['only for tests'] },
});
server.on('request', provider.callback());
console.log(JSON.stringify({ event: 'ready', issuer, client_id: clientId, client_secret: clientSecret }));
