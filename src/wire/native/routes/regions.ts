import { type Route, route } from '../route.ts'
import { showRegion } from '../show.ts'

export const regionRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/regions',
    useCase: 'regions.list',
    about: 'The regions, their zones, and which one is meant when none is named.',
    status: 200,
    fields: {},
    async run({ app, caller }) {
      const fallback = app.regions.default()
      const regions = await app.regions.list(caller)
      return {
        total: regions.length,
        regions: regions.map((one) => showRegion(one, one.id === fallback.regionId)),
      }
    },
  }),
]
