import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import type { App } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'

export function createRegions(parts: Parts, guard: Guard): App['regions'] {
  return {
    async list(caller) {
      await guard.admit(caller, 'regions.list', { reach: 'any' })
      return parts.regions
    },
    default() {
      const region = parts.regions.find((r) => r.id === parts.defaultRegionId)
      const zone = region?.zones[0]
      assert(region !== undefined && zone !== undefined, 'settings check that the default region has a zone')
      return { regionId: region.id as RegionId, zone }
    },
    get(id) {
      const region = parts.regions.find((r) => r.id === id)
      if (region === undefined) {
        const known = parts.regions.map((r) => r.id).join(', ')
        throw new Fault('absent', `Region '${id.slice(0, 80)}' does not exist. Use one of ${known}.`, {
          subject: 'region',
        })
      }
      return region
    },
  }
}
