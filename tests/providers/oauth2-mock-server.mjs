// A provider that logs everybody in without a question (npm oauth2-mock-server 8), on a free port of
// loopback.
import { OAuth2Server } from 'oauth2-mock-server';

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');
// Its own default names `localhost`, which is not what it listens on.
server.issuer.url = `http://127.0.0.1:${server.address().port}`;

server.service.on('beforeTokenSigning', (token) => {
  Object.assign(token.payload, {
    sub: 'mock-1',
    email: 'mock@example.test',
    email_verified: true,
    name: 'Mock One',
  });
});
server.service.on('beforeUserinfo', (response) => {
  response.body = { sub: 'mock-1', email: 'mock@example.test', email_verified: true, name: 'Mock One' };
});
// A new signing key, on request: clients must fetch the keys again.
process.stdin.on('data', async () => {
  await server.issuer.keys.generate('RS256');
  console.log(JSON.stringify({ event: 'rotated' }));
});
console.log(JSON.stringify({
  event: 'ready',
  issuer: server.issuer.url,
  client_id: 'sallyport',
  client_secret: 'mock-server-client-secret-91bc',
}));
