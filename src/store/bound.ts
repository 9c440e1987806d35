import type { Digest, DomainId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { COMMITTED, guard } from './database.ts'
import { imageName } from './names.ts'
import type { RegionStore } from './region.ts'

/** What a committed image binds in its region: its signature, its pages, the packs that its chunks were found in. */
export interface BoundObjects {
  /** The domain of a pack, null for what is no pack; undefined for what is not bound. */
  domainOf(name: ObjectName): DomainId | null | undefined
  /** Names of packs. */
  packs(): ReadonlySet<string>
  /** Those of its packs, and no others. */
  domains(): DomainId[]
}

/** Of an image that is not there: nothing. Asks the index each time, and so knows of packs that were written anew. */
export function boundOf({ database }: Pick<RegionStore, 'database'>, digest: Digest): BoundObjects {
  const from = `FROM imageObject b JOIN object o ON o.number = b.object
    WHERE b.image = (SELECT number FROM object WHERE name = ? AND state = ${COMMITTED})`
  const image = imageName(digest)
  return {
    domainOf(name) {
      const sql = `SELECT o.domain FROM imageObject b JOIN object o ON o.number = b.object WHERE o.name = ?2
        AND b.image = (SELECT number FROM object WHERE name = ?1 AND state = ${COMMITTED})`
      const row = guard(() => database.prepare(sql).get(image, name))
      return row === undefined ? undefined : (row.domain as DomainId | null)
    },
    packs() {
      const sql = `SELECT o.name ${from} AND o.domain IS NOT NULL`
      return new Set(guard(() => database.prepare(sql).all(image)).map((row) => row.name as string))
    },
    domains() {
      const sql = `SELECT DISTINCT o.domain ${from} AND o.domain IS NOT NULL`
      return guard(() => database.prepare(sql).all(image)).map((row) => row.domain as DomainId)
    },
  }
}
