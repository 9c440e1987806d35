import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { endProcess, findProcess } from '../../host/tools/processes.ts'
import { isFault } from '../../image/fault.ts'
import {
  type Bench,
  checkExt4,
  debugfs,
  debugfsWrite,
  MIB,
  openBench,
  putExt4,
  withCache,
} from './appliance.fixture.ts'
import { APPLIANCE_PID_FILE } from './start.ts'

let cache: Awaited<ReturnType<typeof withCache>>
before(async () => {
  cache = await withCache()
})
after(() => cache.remove())

async function onBench(work: (bench: Bench, tree: string) => Promise<void>): Promise<void> {
  const bench = await openBench(cache.cacheFolder)
  try {
    const tree = join(bench.folder, 'tree')
    await mkdir(tree)
    await writeFile(join(tree, 'file'), 'old bytes')
    await work(bench, tree)
  } finally {
    await bench.close()
  }
}

const SIZE_BYTES = 16 * MIB
const volume = (diskIndex: number) => ({ diskIndex, offset: 0, lengthBytes: SIZE_BYTES })

test('a journal is replayed; damage, an unknown feature and what is no file system are told', () =>
  onBench(async (bench, tree) => {
    const [replayed, damaged, strange, empty] = await Promise.all(
      [0, 1, 2, 3].map(() => bench.addDisk(SIZE_BYTES)),
    )
    assert(replayed !== undefined && damaged !== undefined && strange !== undefined && empty !== undefined)
    for (const disk of [replayed, damaged, strange]) await putExt4(disk, 0, SIZE_BYTES, tree, ['-b', '4096'])

    // A change that is in the journal alone.
    const [block] = (await debugfs(replayed, 0, 'blocks /file')).trim().split(' ')
    const fresh = join(bench.folder, 'block')
    await writeFile(fresh, Buffer.alloc(4096, 'new bytes'))
    await debugfsWrite(replayed, `jo\njw -b ${block} ${fresh}\njc\n`)
    assert.equal(await debugfs(replayed, 0, 'cat /file'), 'old bytes')
    // The root is no directory any more.
    await debugfsWrite(damaged, 'clri <2>\n')
    await debugfsWrite(strange, 'set_super_value feature_incompat 0x80002c2\n')

    const appliance = await bench.start([volume(0), volume(1), volume(2), volume(3)])
    const [first, second, third, fourth] = appliance.checks
    assert.equal(first, 'clean')
    assert.match(second ?? '', /damaged/)
    assert.match(third ?? '', /does not know/)
    assert.match(fourth ?? '', /cannot be checked/)
    await appliance.end()
    assert.equal(await debugfs(replayed, 0, 'cat /file'), 'new bytes')
    assert.equal(await checkExt4(replayed, 0), 0)
  }))

test('the signal ends it, in the middle of its start and after', () =>
  onBench(async (bench, tree) => {
    const disk = await bench.addDisk(SIZE_BYTES)
    await putExt4(disk, 0, SIZE_BYTES, tree)
    const early = new AbortController()
    const starting = bench.start([volume(0)], { signal: early.signal })
    const pidPath = join(bench.folder, 'run0', APPLIANCE_PID_FILE)
    while ((await findProcess(pidPath)) === undefined) await new Promise(setImmediate)
    early.abort(new Error('enough'))
    await assert.rejects(starting, /enough/)
    assert.equal(await findProcess(pidPath), undefined)

    const late = new AbortController()
    const appliance = await bench.start([volume(0)], { signal: late.signal })
    late.abort(new Error('enough now'))
    const asked = appliance.apply([{ volume: 0, edits: [{ is: 'remove', path: ['file'] }] }])
    await assert.rejects(asked, /enough now/)
  }))

test('a later process ends it by its pid file, and a disk that goes away is no damage', () =>
  onBench(async (bench, tree) => {
    const disk = await bench.addDisk(SIZE_BYTES)
    await putExt4(disk, 0, SIZE_BYTES, tree)
    const appliance = await bench.start([volume(0)])
    const pidPath = join(bench.folder, 'run0', APPLIANCE_PID_FILE)
    assert.notEqual(await findProcess(pidPath), undefined)
    await endProcess(pidPath, 0)
    assert.equal(await findProcess(pidPath), undefined)
    const asked = appliance.apply([{ volume: 0, edits: [{ is: 'remove', path: ['file'] }] }])
    await assert.rejects(asked, (error) => isFault(error, 'unavailable'))

    const again = await bench.start([volume(0)])
    await bench.stopServers()
    const cut = again.apply([{ volume: 0, edits: [{ is: 'remove', path: ['file'] }] }])
    await assert.rejects(cut, (error) => isFault(error, 'unavailable'))
    assert.equal((await readFile(disk)).length, SIZE_BYTES)
  }))
