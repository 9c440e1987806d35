import { type Route, route } from '../route.ts'

export const peerRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/peers',
    useCase: 'peers.list',
    about:
      'The other installations of the settings that images can be copied from, and which of their regions they let us read; `reason` says why one cannot be asked now.',
    status: 200,
    fields: {},
    async run({ app, caller }) {
      const peers = await app.peers.list(caller)
      return {
        peers: peers.map(({ name, url, regions, reason }) => ({
          ...{ name, url, regions, reason: reason ?? null },
        })),
      }
    },
  }),
]
