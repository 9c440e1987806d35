import assert from 'node:assert/strict'
import type { Digest, DomainId, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { putContent, type WrittenObject } from './capture.ts'
import { COMMITTED, guard } from './database.ts'
import type { ImageContent, ImageDisk } from './image.ts'
import { noImage } from './journal.ts'
import { hashOfName, imageName } from './names.ts'
import type { RefInput } from './refs.ts'
import type { RegionStore } from './region.ts'

export interface Composition
  extends Omit<ImageContent, 'version' | 'domain' | 'disks' | 'parent' | 'report'> {
  readonly domain: DomainId
  /** Disks of committed images of the same domain; the first becomes the system disk. */
  readonly disks: readonly {
    readonly digest: Digest
    readonly diskIndex: number
    readonly bus: ImageDisk['bus']
  }[]
}

/**
 * An image of disks that other images have, without a byte moved: their maps are named again, and the new image needs
 * what theirs do. Its parent is that of the image that its system disk is of. Begins and commits its session; to be undone with `abortSession` after a failure. May run again.
 * Fault 'absent' (subject 'image') for an image that is not there, or goes at this moment.
 */
export async function composeImage(
  region: RegionStore,
  sessionId: string,
  composition: Composition,
  ref: RefInput,
  signal?: AbortSignal,
): Promise<WrittenObject> {
  const { domain, disks, config, os, consistency } = composition
  await region.openSession(sessionId, domain, signal)
  const bound = new Set<number>()
  const composed: ImageDisk[] = []
  let parent: Digest | null = null
  for (const [index, { digest, diskIndex, bus }] of disks.entries()) {
    const source = await region.getImage(digest, signal)
    assert.equal(source.domain, domain, 'images that are composed are of one domain')
    const disk = source.disks[diskIndex]
    assert(disk !== undefined, 'the image has that disk')
    if (index === 0) parent = source.parent
    const { sizeBytes, chunkBytes, pages } = disk
    composed.push({ index, sizeBytes, chunkBytes, bus, pages })
    for (const number of pinNeeds(region, sessionId, digest, new Set(pages))) bound.add(number)
  }
  const made = { domain, disks: composed, config, os, parent, consistency }
  const content: ImageContent = { version: 2, ...made, report: null }
  const written = await putContent(region, sessionId, content, bound, signal)
  const row = await region.putRef(sessionId, { ...ref, digests: [written.digest] }, signal)
  signal?.throwIfAborted()
  region.commitSession(sessionId, [row])
  return written
}

/** What the disk needs of what its image is bound to, pinned. A collection may move chunks, and with them binds, meanwhile. */
function pinNeeds(
  region: RegionStore,
  sessionId: string,
  digest: Digest,
  pages: ReadonlySet<PageId>,
): readonly number[] {
  for (;;) {
    const needed = listNeeds(region, digest, pages)
    if (!region.hasImage(digest)) throw noImage(digest)
    if (region.journal.pinAll(sessionId, needed)) return needed
  }
}

/**
 * The pages of a disk and the packs of its image: of an image of several disks some packs may hold nothing of this one,
 * which costs no more than their room, until a collection moves what is needed out of them.
 */
function listNeeds(region: RegionStore, digest: Digest, pages: ReadonlySet<PageId>): number[] {
  const rows = guard(() =>
    region.database
      .prepare(
        `SELECT o.number, o.name FROM object i
         JOIN imageObject b ON b.image = i.number JOIN object o ON o.number = b.object
         WHERE i.name = ? AND i.state = ${COMMITTED}`,
      )
      .all(imageName(digest)),
  )
  const isNeeded = (name: string) =>
    name.startsWith('packs/') ||
    (name.startsWith('pages/') && pages.has(hashOfName(name as ObjectName) as PageId))
  return rows.filter(({ name }) => isNeeded(String(name))).map(({ number }) => number as number)
}
