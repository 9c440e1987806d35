import { readPage } from '../map.ts'
import { pageName } from '../names.ts'
import { type PullOptions, type PullResult, pullImage } from '../pull.ts'
import type { RegionStore } from '../region.ts'
import type { ReadOnlyRegion } from '../source.ts'
import { damagedBundle, lackingHere } from './fault.ts'
import type { OpenBundle } from './opened.ts'
import { asRegion, checkMap, type Stranger } from './stranger.ts'

export interface PullBundleOptions extends Omit<PullOptions, 'source' | 'digest'> {
  readonly bundle: OpenBundle
}

/**
 * Takes the image of a bundle into a region and commits it there, with the same digest, everything checked again as
 * `pullImage` does it. Chunks of a domain for which this installation has other keys come under the name of a foreign
 * domain (`foreignDomain`), whatever the domain is called; nothing that the region has is changed by it. To be undone with
 * `abortSession`. Faults as `pullImage`; 'invalid' 'file' for a damaged bundle; 'conflict' 'file' reason 'inventory' where
 * chunks are neither in it nor here.
 */
export async function pullBundle(options: PullBundleOptions): Promise<PullResult> {
  const { bundle, target, sessionId, signal, ...others } = options
  const stranger = strangerOf(bundle)
  await checkBundle(bundle, stranger, target, sessionId, signal)
  const source = noneMissing(await asRegion(stranger, target, damagedBundle, signal))
  const { digest } = bundle.statement
  return pullImage({
    ...others,
    ...{ source, target, digest, sessionId },
    ...(signal === undefined ? {} : { signal }),
  })
}

function strangerOf(bundle: OpenBundle): Stranger {
  const { image, objects, secrets, statement } = bundle
  const { digest } = statement
  return { digest, image, objects, secrets, locate: (ids, signal) => bundle.locate(ids, signal) }
}

/** What the region lacks now was here when the map was checked: collected since. */
function noneMissing(region: ReadOnlyRegion): ReadOnlyRegion {
  return {
    ...region,
    async locate(ids, signal) {
      const table = await region.locate(ids, signal)
      if (table.packIndex.includes(-1)) throw lackingHere()
      return table
    },
  }
}

/**
 * Every chunk of the image is in the bundle, or here among chunks of which the bundle's maker has the keys. And the disks
 * hold as much as the bundle says. Reads maps, and changes nothing.
 */
async function checkBundle(
  bundle: OpenBundle,
  stranger: Stranger,
  target: RegionStore,
  sessionId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const data = await checkMap({
    ...{ stranger, target, sessionId, signal, refused: lackingHere },
    readsMax: bundle.objects.traits.callsMax,
    async readPage(id) {
      if (bundle.hasPage(id)) return readPage(bundle.objects, id, signal)
      if (!target.journal.isCommitted(pageName(id))) throw lackingHere()
      return readPage(target.objects, id, signal)
    },
    async onMissing(ids) {
      if ((await bundle.locate(ids, signal)).packIndex.includes(-1)) throw lackingHere()
    },
  })
  for (const [index, disk] of bundle.image.disks.entries()) {
    if (data.bytesOf(disk) !== bundle.statement.dataBytes[index]) throw damagedBundle()
  }
}
