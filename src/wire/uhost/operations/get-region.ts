import { createHash } from 'node:crypto'
import { defineOperation } from '../operation.ts'

/** Source: uhost.md §3.16. Region and ProjectId, which the Go client attaches to every call, are ignored. */
export const getRegion = defineOperation({
  name: 'GetRegion',
  useCase: 'regions.list',
  summary: 'One row for each zone of each region.',
  parameters: {},
  words: {},
  async run({ app, caller }) {
    const regions = await app.regions.list(caller)
    const usual = app.regions.default()
    return {
      Regions: regions.flatMap((region) =>
        region.zones.map((zone) => ({
          RegionId: numberOf(zone),
          RegionName: region.englishName,
          IsDefault: region.id === usual.regionId && zone === usual.zone,
          BitMaps: '1',
          Region: region.id,
          Zone: zone,
        })),
      ),
    }
  },
})

/** The cloud numbers its zones; ours have names alone. A hash stays the same when the settings change their order. */
function numberOf(zone: string): number {
  return createHash('sha256').update(zone, 'utf8').digest().readUInt32BE(0) >>> 1
}
