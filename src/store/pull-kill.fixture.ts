import { join } from 'node:path'
import type { Digest } from '../image/ids.ts'
import { openDirectoryObjects } from '../objects/directory.ts'
import { LocalWrapper } from './keys.ts'
import { pullImage } from './pull.ts'
import { testRegionKey } from './region.fixture.ts'
import { openRegionStore, type RegionStore } from './region.ts'

export const KILL_PACK_BYTES = 1024 * 1024
export const KILL_RANGE_BYTES = 128 * 1024

/** A region in a folder, that of the source or that of the target. */
export async function openKillRegion(folder: string, which: 'source' | 'target'): Promise<RegionStore> {
  const objects = await openDirectoryObjects({ folder: join(folder, which), clean: false })
  return openRegionStore({
    objects,
    indexPath: join(folder, `${which}.sqlite`),
    packBytes: KILL_PACK_BYTES,
    wrapper: new LocalWrapper(testRegionKey(which === 'source' ? 1 : 2)),
  })
}

/** The copy that is killed in the middle; says what it has asked of the source, a line for each report. */
export async function killPull(
  folder: string,
  digest: Digest,
  takesPacks: boolean,
  onMoved: (movedBytes: number, doneBytes: number) => void,
) {
  const [source, target] = [await openKillRegion(folder, 'source'), await openKillRegion(folder, 'target')]
  try {
    return await pullImage({
      ...{ source, target, digest, sessionId: 'killed', check: 'seal', takesPacks },
      limits: { rangeBytesMax: KILL_RANGE_BYTES },
      onProgress: ({ movedBytes, doneBytes }) => onMoved(movedBytes, doneBytes),
    })
  } finally {
    source.close()
    target.close()
  }
}

// As a process of its own. Arguments: FOLDER DIGEST WAY, which is 'packs' or 'chunks'.
if (process.argv[1] === import.meta.filename) {
  const [folder = '', digest = '', way = ''] = process.argv.slice(2)
  await killPull(folder, digest as Digest, way === 'packs', (movedBytes) =>
    process.stdout.write(`${movedBytes}\n`),
  )
}
