import { REMOVING } from '../../store/database.ts'
import type { JournalObject } from '../../store/journal.ts'
import type { RegionStore } from '../../store/region.ts'

/** Sessions of collections, repairs, refs and removals belong to no task that would end them: they end with their process. */
const OWN = /^(gc|repair|ref|erase)-/

/** Ends what the process before had begun and no task takes up again. Nobody else may use the store yet. */
export async function endBegun(region: RegionStore): Promise<void> {
  for (const { id } of region.listSessions()) {
    if (OWN.test(id)) await region.abortSession(id)
  }
  // Until it is gone, a writer of the same object would wait for it.
  const rows = region.database.prepare(`SELECT number, name FROM object WHERE state = ${REMOVING}`).all()
  for (const object of rows as unknown as JournalObject[]) await region.erase(object)
}
