import { operation } from '../operation.ts'
import { optional } from '../parameter.ts'
import { text } from '../rules.ts'

export const describeRegions = operation({
  name: 'DescribeRegions',
  useCase: 'regions.list',
  summary: 'Lists the regions.',
  parameters: {
    AcceptLanguage: optional(
      text(32),
      'LocalName is in the regions’ own language when absent or beginning with zh, else in English',
    ),
  },
  async run({ app, caller, host }, { AcceptLanguage }) {
    const isLocal = AcceptLanguage === undefined || /^zh/i.test(AcceptLanguage)
    const regions = await app.regions.list(caller)
    return {
      Regions: regions.map(({ id, localName, englishName }) => ({
        RegionId: id,
        LocalName: isLocal ? localName : englishName,
        // One server is the endpoint of all its regions: a client that follows this stays with us.
        RegionEndpoint: host,
      })),
    }
  },
})
