import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PLAIN_CONFIG } from '../src/image/config.ts'
import type { PageId } from '../src/image/ids.ts'
import { ID_BYTES, sha256 } from '../src/store/hashes.ts'
import { encodeImage } from '../src/store/image.ts'
import { PAGE_BYTES, PAGE_IDS } from '../src/store/map.ts'
import { imageName, pageName, signatureName } from '../src/store/names.ts'
import type { RegionStore } from '../src/store/region.ts'
import { openRegion } from '../src/tasks/threads/region.ts'
import { ourCommand, ourEnvironment } from './tools/calotype.ts'
import { runCommand, sizeOfTree, withScratch } from './tools/measure.ts'
import { placeIn, SOURCE } from './tools/places.ts'
import type { Bench } from './tools/report.ts'
import { BENCH_DOMAIN } from './tools/synthetic.ts'

// A region of 1 000 images of 100 GiB each, versions of 20 disks: each changes 10 of its 200 map pages, and 100 of the
// 2 048 chunks of each. Maps, image objects and index are what such a region has; only the packs themselves are not there.

const FAMILIES = 20
const VERSIONS = 50
const DISK_BYTES = 100 * 1024 ** 3
const CHUNK_BYTES = 256 * 1024
const PAGES = DISK_BYTES / CHUNK_BYTES / PAGE_IDS
const CHANGED_PAGES = 10
const CHANGED_CHUNKS = 100
const CHUNKS_PER_PACK = 256

/** Writes maps and image objects to the folder and the rows to the index, without the syncs of real work. */
class Filler {
  readonly #objects: string
  readonly #sql
  #pack: number | undefined
  #inPack = CHUNKS_PER_PACK
  #random = Buffer.alloc(0)
  #randomAt = 0
  chunkCount = 0
  pageCount = 0

  constructor(region: RegionStore, objects: string) {
    this.#objects = objects
    this.#sql = {
      object: region.database.prepare(
        'INSERT INTO object (name, domain, sizeBytes, state, liveBytes) VALUES (?, ?, ?, 1, ?) RETURNING number',
      ),
      chunk: region.database.prepare('INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)'),
      bind: region.database.prepare('INSERT OR IGNORE INTO imageObject VALUES (?, ?)'),
      ref: region.database.prepare('INSERT INTO ref VALUES (?, ?, ?)'),
    }
  }

  #id(): Buffer {
    if (this.#randomAt === this.#random.length) {
      this.#random = randomBytes(1 << 20)
      this.#randomAt = 0
    }
    this.#randomAt += ID_BYTES
    return this.#random.subarray(this.#randomAt - ID_BYTES, this.#randomAt)
  }

  #row(name: string, domain: string | null, sizeBytes: number): number {
    return this.#sql.object.get(name, domain, sizeBytes, sizeBytes)?.number as number
  }

  #file(name: string, bytes: Buffer): number {
    const path = join(this.#objects, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, bytes)
    return this.#row(name, null, bytes.length)
  }

  /** A new chunk at a place of a page, in the pack that is being filled. */
  chunk(page: Buffer, position: number, packs: Set<number>): void {
    if (this.#inPack === CHUNKS_PER_PACK) {
      const name = randomBytes(32).toString('hex')
      this.#pack = this.#row(`packs/${name.slice(0, 2)}/${name}`, BENCH_DOMAIN, CHUNKS_PER_PACK * 130_000)
      this.#inPack = 0
    }
    const id = this.#id()
    id.copy(page, position * ID_BYTES)
    this.#sql.chunk.run(id, this.#pack as number, 64 + this.#inPack * 130_000, 130_000, CHUNK_BYTES, 1)
    packs.add(this.#pack as number)
    this.#inPack++
    this.chunkCount++
  }

  page(bytes: Buffer): { id: PageId; number: number } {
    this.pageCount++
    const id = sha256(bytes) as PageId
    return { id, number: this.#file(pageName(id), bytes) }
  }

  image(name: string, pages: readonly { id: PageId; number: number }[], packs: Iterable<number>): void {
    const { digest, bytes } = encodeImage({
      version: 1,
      domain: BENCH_DOMAIN,
      disks: [
        {
          index: 0,
          bus: 'virtio-blk',
          sizeBytes: DISK_BYTES,
          chunkBytes: CHUNK_BYTES,
          pages: pages.map((one) => one.id),
        },
      ],
      config: PLAIN_CONFIG,
      os: { type: 'linux', name },
      parent: null,
      consistency: 'crash',
      report: null,
    })
    const signature = this.#file(signatureName(digest), Buffer.from('{}'))
    const number = this.#file(imageName(digest), bytes)
    for (const bound of [signature, ...pages.map((one) => one.number), ...packs])
      this.#sql.bind.run(number, bound)
    this.#sql.ref.run(name, digest, `refs/${name}/1-0`)
  }
}

function fill(region: RegionStore, folder: string): { chunkCount: number; pageCount: number } {
  const filler = new Filler(region, join(folder, SOURCE, 'objects'))
  for (let family = 0; family < FAMILIES; family++) {
    region.database.transaction(() => {
      const packs = new Set<number>()
      const bytes = Array.from({ length: PAGES }, () => {
        const page = Buffer.alloc(PAGE_BYTES)
        // A tenth of the disk is in use, spread over all of it.
        for (let i = 0; i < PAGE_IDS; i += 10) filler.chunk(page, i, packs)
        return page
      })
      const pages = bytes.map((page) => filler.page(page))
      for (let version = 0; version < VERSIONS; version++) {
        for (let i = 0; version > 0 && i < CHANGED_PAGES; i++) {
          const at = (version * 31 + i * 17) % PAGES
          const page = Buffer.from(bytes[at] as Buffer)
          for (let k = 0; k < CHANGED_CHUNKS; k++) filler.chunk(page, (k * 20 + version) % PAGE_IDS, packs)
          bytes[at] = page
          pages[at] = filler.page(page)
        }
        filler.image(`family${family}-version${version}`, pages, packs)
      }
    })
  }
  return filler
}

export const run: Bench = (say) =>
  withScratch(async (scratch) => {
    const folder = join(scratch, 'ours')
    const region = await openRegion(placeIn(folder, SOURCE))
    const { chunkCount, pageCount } = fill(region, folder)
    region.close()
    const indexBytes = await sizeOfTree(join(folder, SOURCE, 'index.db'))
    say(
      `${FAMILIES * VERSIONS} images, ${pageCount} pages, ${chunkCount} chunks, index of ${Math.round(indexBytes / 1e6)} MB`,
    )
    const { said, peakRssBytes } = await runCommand(ourCommand('ours-scale.ts', folder), {
      environment: ourEnvironment(),
      result: join(scratch, 'nothing'),
    })
    const { openMs, openRssBytes, queryMs, ...more } = JSON.parse(said) as {
      readonly openMs: number
      readonly openRssBytes: number
      readonly queryMs: Readonly<Record<string, number>>
    }
    const slowestMs = Math.max(...Object.values(queryMs))
    return {
      rows: [
        { ...more, name: 'calotype', peakRssBytes, openMs, openRssBytes, chunkCount, indexBytes, ...queryMs },
      ],
      races: [],
      marks: [
        {
          what: 'opening an image of 100 GiB whole, milliseconds',
          goal: '< 50',
          got: openMs,
          met: openMs < 50,
        },
        {
          what: '1 000 images open, bytes of memory',
          goal: '< 1e9',
          got: peakRssBytes,
          met: peakRssBytes < 1e9,
        },
        {
          what: 'slowest catalog query with 1 000 images in the region and project, milliseconds',
          goal: '< 10',
          got: slowestMs,
          met: slowestMs < 10,
        },
      ],
    }
  })
