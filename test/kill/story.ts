import assert from 'node:assert/strict'
import { PLAIN_CONFIG } from '../../src/image/config.ts'
import type { Digest, DomainId, PackId } from '../../src/image/ids.ts'
import type { ObjectStore } from '../../src/objects/contract.ts'
import { commitImage, type NewImage } from '../../src/store/capture.ts'
import { ChunkWriter } from '../../src/store/chunk-writer.ts'
import { newClaims } from '../../src/store/claims.ts'
import { noise, type TestDisk } from '../../src/store/disks.fixture.ts'
import { collectGarbage } from '../../src/store/gc.ts'
import { LocalWrapper } from '../../src/store/keys.ts'
import { newDiskIds } from '../../src/store/map.ts'
import { hashOfName, PUBLIC_DOMAIN } from '../../src/store/names.ts'
import { pullImage } from '../../src/store/pull.ts'
import { openRegionStore, type RegionStore } from '../../src/store/region.ts'
import { byDomain, rewritePacks } from '../../src/store/rewrite.ts'

/** One thing that a server does to its regions, as plain data, so that another process can do it again. */
export type Command =
  | {
      readonly kind: 'capture'
      readonly region: number
      readonly sessionId: string
      readonly holder: string
      readonly isPublic: boolean
      /** A number for each chunk of each disk; 0 is zeroes. */
      readonly disks: readonly (readonly number[])[]
    }
  | { readonly kind: 'copy'; readonly sessionId: string; readonly holder: string; readonly digest: Digest }
  | { readonly kind: 'refer'; readonly region: number; readonly holder: string; readonly digest: Digest }
  | { readonly kind: 'drop'; readonly region: number; readonly holder: string }
  | { readonly kind: 'collect'; readonly region: number }
  | { readonly kind: 'rewrite'; readonly region: number; readonly sessionId: string }
  | { readonly kind: 'rebuild'; readonly region: number }

const CHUNK_BYTES = 64 * 1024
const DOMAIN = 'org-test' as DomainId

export function disksOf(disks: readonly (readonly number[])[]): TestDisk[] {
  return disks.map((chunks) => {
    const bytes = Buffer.alloc(chunks.length * CHUNK_BYTES - CHUNK_BYTES / 2)
    chunks.forEach((content, i) => {
      // Half of the contents compress well, so that packs differ in how much of them lives.
      if (content > 0) noise(CHUNK_BYTES, content, content % 2 === 0 ? 64 : 8).copy(bytes, i * CHUNK_BYTES)
    })
    return { bytes, chunkBytes: CHUNK_BYTES }
  })
}

/** Packs of four chunks or so. */
export function openRegion(objects: ObjectStore, indexPath: string, number: number): Promise<RegionStore> {
  const secretsOf = (domain: DomainId) => ({
    idKey: new Uint8Array(32).fill(domain.length),
    dataKey: new Uint8Array(32).fill(domain.length + 1),
  })
  const wrapper = new LocalWrapper(new Uint8Array(32).fill(number + 1))
  return openRegionStore({ objects, indexPath, wrapper, secretsOf, packBytes: 40_000 })
}

/** Does the command; the digest of the image that it made, if it made one. */
export async function run(
  regions: readonly [RegionStore, RegionStore],
  command: Command,
  signal?: AbortSignal,
): Promise<Digest | undefined> {
  const stopping = signal === undefined ? {} : { signal }
  const store = 'region' in command ? regions[command.region] : regions[1]
  assert(store !== undefined)
  switch (command.kind) {
    case 'capture': {
      const { sessionId, holder } = command
      const domain = command.isPublic ? PUBLIC_DOMAIN : DOMAIN
      const image = await writeDisks(store, sessionId, domain, disksOf(command.disks), signal)
      const ref = { holder, label: {} }
      return (await commitImage(store, sessionId, image, { ref, ...stopping })).digest
    }
    case 'copy': {
      const { sessionId, holder, digest } = command
      const ref = { holder, label: {} }
      await pullImage({ source: regions[0], target: store, digest, sessionId, ref, ...stopping })
      return digest
    }
    case 'refer':
      await store.setRef({ holder: command.holder, digests: [command.digest], label: {} }, signal)
      return command.digest
    case 'drop':
      await store.dropRef(command.holder, signal)
      return undefined
    case 'collect':
      await collect(store, signal)
      return undefined
    case 'rewrite': {
      const packs = store.journal.listCommitted('packs/').map(({ name }) => hashOfName(name) as PackId)
      for (const [domain, some] of byDomain(store, packs)) {
        const sessionId = `${command.sessionId}-${domain}`
        const packs = some.filter((_, i) => i % 2 === 0)
        await rewritePacks({ region: store, packs, sessionId, ...stopping })
      }
      return undefined
    }
    case 'rebuild':
      await store.rebuildIndex(stopping)
      return undefined
    default:
      return command satisfies never
  }
}

async function writeDisks(
  region: RegionStore,
  sessionId: string,
  domain: DomainId,
  disks: readonly TestDisk[],
  signal: AbortSignal | undefined,
): Promise<NewImage> {
  await region.openSession(sessionId, domain, signal)
  const stopping = signal === undefined ? {} : { signal }
  const claims = newClaims(64)
  const chunkBytes = CHUNK_BYTES
  const writer = await ChunkWriter.open({ region, sessionId, domain, chunkBytes, claims, ...stopping })
  try {
    const written: NewImage['disks'][number][] = []
    for (const [index, { bytes }] of disks.entries()) {
      const ids = newDiskIds(bytes.length, chunkBytes)
      for (let i = 0; i * chunkBytes < bytes.length; i++) {
        await writer.feed(ids, i, bytes.subarray(i * chunkBytes, (i + 1) * chunkBytes))
      }
      written.push({ index, bus: 'virtio-blk', sizeBytes: bytes.length, chunkBytes, ids })
    }
    await writer.finish()
    const os = { type: 'linux', name: 'Test' } as const
    return { domain, disks: written, config: PLAIN_CONFIG, os, parent: null, consistency: 'crash' }
  } catch (error) {
    await writer.abandon()
    throw error
  }
}

/** Removes all that nobody needs: no session is alive, and there is no grace. */
export async function collect(store: RegionStore, signal?: AbortSignal) {
  const deadSessions = store.listSessions().map((session) => session.id)
  const stopping = signal === undefined ? {} : { signal }
  return collectGarbage({
    region: store,
    graceMs: 0,
    isDryRun: false,
    deadSessions,
    repackBelow: 0.9,
    ...stopping,
  })
}
