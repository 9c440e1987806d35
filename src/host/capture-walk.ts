import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CaptureTools } from './capture-tools.ts'
import type { DiskExports, ExportedDisk, ExportRequest, Host, MachineSpec } from './contract.ts'
import { type HostFixture, MEBIBYTE, makeMachine, never, SECTOR_BYTES, until } from './suite-tools.ts'

const STEP_COUNT = 40
/** The sectors that the guest writes. */
const SECTOR_FIRST = 60
const SECTOR_COUNT = 60
const WALK_COUNT = 2

/** What is known of the last capture of a disk that was taken. */
interface Taken {
  readonly key: string
  /** Nothing happened since that would allow the host to have forgotten it. */
  mustBeKnown: boolean
}

interface Open {
  readonly key: string
  readonly request: ExportRequest
  readonly exports: DiskExports
  readonly isStill: boolean
  /** The guest has not ended since. */
  isAlive: boolean
}

/**
 * A machine's life by chance: written to, captured, stopped, killed, given other disks, its driver opened anew. After
 * each step that shows disks they are what was written, and what is called unchanged is as the earlier capture saw it.
 */
export function walkPromises(fixtureOf: () => HostFixture): void {
  for (let count = 0; count < WALK_COUNT; count++)
    test(`in a life by chance, number ${count + 1}, nothing that changed is called unchanged`, async (t) => {
      const seed = Math.floor(Math.random() * 2 ** 32)
      t.diagnostic(`seed ${seed}`)
      const walk = await Walk.begin(fixtureOf, seed)
      try {
        for (let step = 0; step < STEP_COUNT; step++) await walk.step()
        await walk.end()
      } catch (error) {
        t.diagnostic(walk.story.join('\n'))
        throw error
      }
    })
}

class Walk {
  /** What happened, for whoever has to find out why a walk failed. */
  readonly story: string[] = []
  readonly #tools: CaptureTools
  readonly #spec: MachineSpec
  readonly #random: () => number
  /** What each disk holds, and what it held at each capture. */
  readonly #now: Buffer[]
  readonly #contentAt: Map<string, Buffer>[]
  readonly #taken: (Taken | undefined)[]
  /** Disks whose guest was killed since they were last looked at: what it had not flushed may be lost. */
  readonly #unsure = new Set<number>()
  #host: Host
  #isRunning = false
  #open: Open | undefined
  #keyCount = 0

  private constructor(tools: CaptureTools, spec: MachineSpec, seed: number) {
    const { host, bootDisk } = tools.fixture
    this.#tools = tools
    this.#spec = spec
    this.#random = randomOf(seed)
    this.#now = [Buffer.concat([bootDisk(3 * MEBIBYTE)], 4 * MEBIBYTE), Buffer.alloc(2 * MEBIBYTE)]
    this.#contentAt = this.#now.map(() => new Map())
    this.#taken = this.#now.map(() => undefined)
    this.#host = host
  }

  static async begin(fixtureOf: () => HostFixture, seed: number): Promise<Walk> {
    const tools = new CaptureTools(fixtureOf)
    return new Walk(tools, await makeMachine(tools.fixture), seed)
  }

  async step(): Promise<void> {
    const capture = this.#open === undefined ? this.#beginCapture : this.#endCapture
    const runs = [this.#fill, this.#fill, this.#fill, capture, capture, this.#end, this.#reopen]
    const rests = [this.#start, this.#start, capture, capture, this.#replace, this.#reopen]
    await this.#pick(this.#isRunning ? runs : rests).call(this)
  }

  async end(): Promise<void> {
    if (this.#open !== undefined) await this.#endCapture()
    const { host, leftovers } = this.#tools.fixture
    if (this.#host !== host) await this.#host.close()
    await host.ensureGone(this.#spec.id, never())
    assert.deepEqual(await leftovers(this.#spec.id), [])
  }

  async #fill(): Promise<void> {
    const disk = this.#below(2)
    const sector = SECTOR_FIRST + this.#below(SECTOR_COUNT)
    const character = this.#pick([...'abcdefgh'])
    await this.#tools.fill(this.#host, this.#spec, disk, sector, character)
    this.#now[disk] = filled(this.#contentOf(disk), sector, character)
    this.#say(`disk ${disk}: ${character} at ${sector}`)
  }

  async #start(): Promise<void> {
    if (this.#open?.isStill === true) return
    await this.#tools.start(this.#host, this.#spec)
    this.#isRunning = true
    this.#say('started')
  }

  async #end(): Promise<void> {
    const how = this.#pick(['graceful', 'graceful', 'power', 'crash'] as const)
    if (how === 'crash') await this.#crash()
    else await this.#host.ensureStopped(this.#spec.id, how, never())
    this.#isRunning = false
    if (this.#open !== undefined) this.#open.isAlive = false
    if (how !== 'graceful')
      for (const [index, taken] of this.#taken.entries()) {
        this.#unsure.add(index)
        if (taken) taken.mustBeKnown = false
      }
    this.#say(`ended: ${how}`)
  }

  async #crash(): Promise<void> {
    await this.#tools.fixture.guest?.crash(this.#spec.id)
    await until('the machine to stop', async () => (await this.#host.power(this.#spec.id)) === 'stopped')
  }

  async #reopen(): Promise<void> {
    if (this.#host !== this.#tools.fixture.host) await this.#host.close()
    this.#host = await this.#tools.fixture.reopen()
    this.#say('driver opened anew')
  }

  async #replace(): Promise<void> {
    if (this.#open !== undefined) return
    const disk = this.#spec.disks[1]
    assert.ok(disk)
    const content = Buffer.alloc(MEBIBYTE, this.#pick(['one', 'two']))
    const base = await this.#tools.fixture.serveBase(content)
    await this.#host.replaceDisk(this.#spec.id, { ...disk, base }, never())
    this.#now[1] = Buffer.concat([content], disk.sizeBytes)
    this.#unsure.delete(1)
    const taken = this.#taken[1]
    if (taken) taken.mustBeKnown = false
    this.#say('data disk replaced')
  }

  async #beginCapture(): Promise<void> {
    const key = `k${++this.#keyCount}`
    const indices = this.#pick([[0], [1], [0, 1], [1, 0]])
    const diskIds = indices.map((index) => this.#idOf(index))
    const since: Record<string, string> = {}
    for (const index of indices) {
      const older = [...this.#contentAtOf(index).keys()]
      const named = this.#below(4) === 0 ? this.#pick([...older, undefined]) : this.#taken[index]?.key
      if (named !== undefined) since[this.#idOf(index)] = named
    }
    const request = { diskIds, since, consistency: 'best' } as const
    this.#say(`capture ${key} of ${indices} since ${Object.values(since)}`)
    const exports = await this.#host.openExports(this.#spec.id, key, request, never())
    assert.equal(exports.moment, 'new')
    for (const [position, index] of indices.entries()) {
      const exported = exports.disks[position]
      assert.ok(exported)
      if (this.#unsure.delete(index)) await this.#lookAt(index, exported)
      this.#contentAtOf(index).set(key, this.#contentOf(index))
    }
    this.#open = { key, request, exports, isStill: !this.#isRunning, isAlive: true }
    await this.#check(this.#open)
  }

  /** What a killed guest left is what there is, but only where it wrote. */
  async #lookAt(index: number, exported: ExportedDisk): Promise<void> {
    const before = this.#contentOf(index)
    const content = await this.#tools.contentOf(exported)
    const [from, to] = [SECTOR_FIRST * SECTOR_BYTES, (SECTOR_FIRST + SECTOR_COUNT) * SECTOR_BYTES]
    const rest = (bytes: Buffer) => Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])
    assert.ok(rest(content).equals(rest(before)), `disk ${index} after a kill`)
    this.#now[index] = content
  }

  async #endCapture(): Promise<void> {
    const open = this.#open
    assert.ok(open)
    if (open.isAlive) await this.#check(open)
    const outcome = this.#pick(['taken', 'taken', 'given-up'] as const)
    this.#say(`capture ${open.key}: ${outcome}`)
    await this.#host.closeExports(this.#spec.id, open.key, outcome)
    this.#open = undefined
    if (outcome === 'given-up') return
    for (const [index, { id }] of this.#spec.disks.entries())
      if (open.request.diskIds.includes(id)) this.#taken[index] = { key: open.key, mustBeKnown: open.isAlive }
  }

  /** The exports show the moment, and are right about what changed since the captures named. */
  async #check({ key, request, exports }: Open): Promise<void> {
    for (const disk of exports.disks) {
      const index = this.#spec.disks.findIndex((one) => one.id === disk.id)
      const moment = this.#contentAtOf(index).get(key)
      assert.ok(moment && (await this.#tools.contentOf(disk)).equals(moment), `disk ${index} at ${key}`)
      const since = request.since[disk.id]
      if (disk.changes !== undefined) {
        assert.ok(since)
        await this.#tools.changedBytes(disk, this.#contentAtOf(index).get(since))
      } else {
        assert.equal(disk.changesWhy === '', since === undefined)
        const taken = this.#taken[index]
        const isForgotten = taken?.mustBeKnown === true && taken.key === since
        assert.ok(!isForgotten, `disk ${index} since ${since}: ${disk.changesWhy}`)
      }
    }
  }

  #contentOf(index: number): Buffer {
    const content = this.#now[index]
    assert.ok(content)
    return content
  }

  #contentAtOf(index: number): Map<string, Buffer> {
    const contents = this.#contentAt[index]
    assert.ok(contents)
    return contents
  }

  #idOf(index: number): MachineSpec['disks'][number]['id'] {
    const disk = this.#spec.disks[index]
    assert.ok(disk)
    return disk.id
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #pick<Choice>(choices: readonly [Choice, ...Choice[]] | readonly Choice[]): Choice {
    return choices[this.#below(choices.length)] as Choice
  }

  #say(text: string): void {
    this.story.push(text)
  }
}

function filled(content: Buffer, sector: number, character: string): Buffer {
  return Buffer.from(content).fill(character, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
}

/** Numbers from 0 to below 1, the same ones for each seed. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
