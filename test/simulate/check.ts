import assert from 'node:assert/strict'
import type { StatementSync } from 'node:sqlite'
import type { PackId } from '../../src/image/ids.ts'
import type { ObjectName } from '../../src/objects/names.ts'
import { ID_BYTES, isZeroId } from '../../src/store/hashes.ts'
import { PAGE_IDS, ZERO_PAGE } from '../../src/store/map.ts'
import { hashOfName, imageName, pageName, signatureName } from '../../src/store/names.ts'
import { parsePackContent } from '../../src/store/pack.ts'
import type { SimulatedBucket } from './bucket.ts'
import type { Holder } from './model.ts'
import type { SimulatedRegion, World } from './world.ts'

/** What a readable image needs. */
interface Needs {
  readonly objects: readonly ObjectName[]
  /** As hex digits. */
  readonly chunks: readonly string[]
}

const QUERIES = {
  isMade: "SELECT 1 FROM sqlite_schema WHERE name = 'meta'",
  addChunk: 'INSERT INTO temp.needChunk VALUES (?, ?)',
  addObject: 'INSERT INTO temp.needObject VALUES (?, ?)',
  addRef: 'INSERT INTO temp.needRef VALUES (?, ?)',
  version: 'PRAGMA data_version',
  isComplete: "SELECT 1 FROM meta WHERE key = 'complete'",
  present: 'SELECT name FROM object WHERE state IN (1, 3)',
  chunk: `SELECT n.image, n.id FROM temp.needChunk n WHERE NOT EXISTS (
    SELECT 1 FROM object i JOIN imageObject b ON b.image = i.number JOIN object o ON o.number = b.object
    JOIN chunk c ON c.object = o.number AND c.id = n.id
    WHERE i.name = n.image AND i.state = 1 AND o.state = 1) LIMIT 1`,
  object: `SELECT n.image, n.name FROM temp.needObject n WHERE NOT EXISTS (
    SELECT 1 FROM object i JOIN imageObject b ON b.image = i.number JOIN object o ON o.number = b.object
    WHERE i.name = n.image AND i.state = 1 AND o.state = 1 AND o.name = n.name) LIMIT 1`,
  ref: `SELECT n.holder FROM temp.needRef n WHERE NOT EXISTS (
    SELECT 1 FROM ref r JOIN object o ON o.name = r.name
    WHERE r.holder = n.holder AND r.digest = n.digest AND o.state = 1) LIMIT 1`,
}

/**
 * Looks at one region while everybody stands still: whatever is sure must be whole, in the objects themselves and by the
 * index. Looks only when something changed since the last time.
 */
export class Checker {
  readonly #region: SimulatedRegion
  readonly #world: World
  readonly #needs = new Map<Holder, Needs>()
  readonly #packs = new Map<ObjectName, readonly string[]>()
  #index: SimulatedRegion['index'] | undefined
  readonly #statements = new Map<string, StatementSync>()
  #seen = ''
  #toldIndex: SimulatedRegion['index'] | undefined
  #toldVersion = -1
  lookCount = 0

  constructor(world: World, region: SimulatedRegion) {
    this.#world = world
    this.#region = region
  }

  afterStep(): void {
    const { model } = this.#world
    const { index, bucket } = this.#region
    const isNew = index !== this.#index
    if (isNew) this.#statements.clear()
    this.#index = index
    const { data_version } = this.#query('version').get() as { data_version: number }
    const now = `${data_version} ${bucket.removedCount} ${model.version}`
    if (!isNew && now === this.#seen) return
    this.#seen = now
    this.lookCount++
    const sure = model.sure().filter((holder) => holder.region === this.#region)
    this.#checkObjects(sure)
    // Until it is whole again, a lost index says nothing.
    if (this.#query('isMade').get() === undefined || this.#query('isComplete').get() === undefined) return
    if (this.#toldIndex !== index || this.#toldVersion !== model.version) this.#tellNeeds(sure)
    for (const { name } of this.#query('present').all()) {
      assert(bucket.contents.has(name as ObjectName), `the index names ${name}, which is not there`)
    }
    const chunk = this.#query('chunk').get()
    assert(chunk === undefined, `by the index ${chunk?.image} has lost chunk ${hex(chunk?.id)}`)
    const object = this.#query('object').get()
    assert(object === undefined, `by the index ${object?.image} has lost ${object?.name}`)
    const ref = this.#query('ref').get()
    assert(ref === undefined, `by the index the ref of ${ref?.holder} is lost`)
  }

  /** What the readable images of all `holders` need, by the names of objects and the ids of chunks. */
  needsOf(holder: Holder): Needs {
    let needs = this.#needs.get(holder)
    if (needs === undefined) {
      needs = needsOf(holder, this.#region.bucket)
      this.#needs.set(holder, needs)
    }
    return needs
  }

  chunksOf(name: ObjectName): readonly string[] {
    let ids = this.#packs.get(name)
    if (ids === undefined) {
      const bytes = this.#region.bucket.contents.get(name)
      assert(bytes !== undefined)
      ids = parsePackContent(hashOfName(name) as PackId, bytes).entries.map((entry) => hex(entry.id))
      this.#packs.set(name, ids)
    }
    return ids
  }

  #checkObjects(sure: readonly Holder[]): void {
    const { contents } = this.#region.bucket
    const chunks = new Set<string>()
    for (const name of contents.keys()) {
      if (name.startsWith('packs/')) for (const id of this.chunksOf(name)) chunks.add(id)
    }
    for (const holder of sure) {
      const needs = this.needsOf(holder)
      for (const name of needs.objects)
        assert(contents.has(name), `${holder.name} can be read and has lost ${name}`)
      for (const id of needs.chunks)
        assert(chunks.has(id), `${holder.name} can be read and has lost chunk ${id}`)
    }
  }

  #query(name: keyof typeof QUERIES): StatementSync {
    let statement = this.#statements.get(name)
    if (statement === undefined) {
      statement = this.#region.index.prepare(QUERIES[name])
      this.#statements.set(name, statement)
    }
    return statement
  }

  #tellNeeds(sure: readonly Holder[]): void {
    const { index } = this.#region
    index.exec(
      this.#toldIndex === index
        ? 'DELETE FROM temp.needChunk; DELETE FROM temp.needObject; DELETE FROM temp.needRef;'
        : `CREATE TEMP TABLE needChunk (image, id); CREATE TEMP TABLE needObject (image, name);
           CREATE TEMP TABLE needRef (holder, digest);`,
    )
    this.#toldIndex = index
    this.#toldVersion = this.#world.model.version
    const addChunk = this.#query('addChunk')
    const addObject = this.#query('addObject')
    const addRef = this.#query('addRef')
    const told = new Set<string>()
    for (const holder of sure) {
      assert(holder.digest !== undefined)
      addRef.run(holder.name, holder.digest)
      const image = imageName(holder.digest)
      if (told.has(image)) continue
      told.add(image)
      const { objects, chunks } = this.needsOf(holder)
      for (const id of chunks) addChunk.run(image, Buffer.from(id, 'hex'))
      for (const name of objects) if (name !== image) addObject.run(image, name)
    }
  }
}

function needsOf({ digest, image }: Holder, bucket: SimulatedBucket): Needs {
  assert(digest !== undefined && image !== undefined)
  const objects = new Set([imageName(digest), signatureName(digest)])
  const chunks = new Set<string>()
  for (const page of image.disks.flatMap((disk) => disk.pages)) {
    if (page === ZERO_PAGE) continue
    objects.add(pageName(page))
    const bytes = bucket.contents.get(pageName(page))
    assert(bytes !== undefined, `an image was committed without page ${page}`)
    for (let i = 0; i < PAGE_IDS; i++) {
      if (!isZeroId(bytes, i * ID_BYTES)) chunks.add(hex(bytes.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)))
    }
  }
  return { objects: [...objects], chunks: [...chunks] }
}

function hex(id: unknown): string {
  return id instanceof Uint8Array ? Buffer.from(id).toString('hex') : String(id)
}
